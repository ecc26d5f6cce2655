"""Bodies of the OpenAI API, and the prompts in them."""

import pytest

from pointsman_simulator.adapters.json_body import decode_body
from pointsman_simulator.adapters.openai_requests import chat_decoder, completion_decoder
from pointsman_simulator.adapters.vllm_errors import ApiError


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ('"héllo"', ["héllo".encode()]),
        ('["a","b"]', [b"a", b"b"]),
        ("[1,2]", [b"\x01\0\0\0\x02\0\0\0"]),
        ("[[1],[2]]", [b"\x01\0\0\0", b"\x02\0\0\0"]),
        ('[""]', [b""]),
    ],
)
def test_prompts_of_every_kind_become_bytes(prompt: str, expected: list[bytes]) -> None:
    body = decode_body(completion_decoder, f'{{"prompt":{prompt}}}'.encode())
    assert body.prompts() == expected


def test_fields_that_are_null_are_absent_and_unknown_ones_do_not_matter() -> None:
    raw = b'{"messages":[],"model":null,"stream":null,"max_tokens":null,"n":null,"top_p":0.3}'
    body = decode_body(chat_decoder, raw)
    body.check()
    assert (body.model, body.stream, body.token_limit()) == (None, None, None)


def test_what_is_refused_has_a_status_and_a_reason() -> None:
    body = decode_body(chat_decoder, b'{"messages":[],"n":3}')
    with pytest.raises(ApiError, match="n must be 1, got 3") as refused:
        body.check()
    assert refused.value.status == 400
