"""Prompts as texts and as token ids: completions, embeddings, vLLM's generate."""

import json
import struct
from typing import Any

import pytest

from pointsman_common.errors import BadRequestError
from pointsman_router.core.request_parsers.openai_completions import OpenAiCompletionsParser
from pointsman_router.core.request_parsers.openai_embeddings import OpenAiEmbeddingsParser
from pointsman_router.core.request_parsers.openai_images import OpenAiImagesParser
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.vllm_generate import VllmGenerateParser


def completions(**fields: Any) -> ParsedRequest:
    return OpenAiCompletionsParser().parse(json.dumps({"model": "m", **fields}).encode())


def test_the_fields_of_completions_are_read() -> None:
    parsed = completions(prompt="hi", stream=True, max_tokens=10, cache_salt="s")
    assert (parsed.api, parsed.model) == ("openai-completions", "m")
    assert (parsed.stream, parsed.max_output_tokens, parsed.cache_salt) == (True, 10, "s")


@pytest.mark.parametrize(
    ("prompt", "prompts", "tokens"),
    [
        ("héllo", ["héllo".encode()], 2),
        (["ab", "cdefg"], [b"ab", b"cdefg"], 3),
        ([1, 2, 70_000], [struct.pack("<3I", 1, 2, 70_000)], 3),
        ([[1], [2, 3]], [struct.pack("<I", 1), struct.pack("<2I", 2, 3)], 3),
        (["", "a"], [b"", b"a"], 1),
    ],
)
def test_every_form_of_prompt_is_read(prompt: Any, prompts: list[bytes], tokens: int) -> None:
    parsed = completions(prompt=prompt)
    assert list(parsed.prompts) == prompts
    assert parsed.prompt_tokens == tokens


def test_spaces_before_the_first_item_do_not_matter() -> None:
    body = b'{"model":"m","prompt": [ \n "a" , "b" ] }'
    assert OpenAiCompletionsParser().parse(body).prompts == (b"a", b"b")


@pytest.mark.parametrize("fields", [{}, {"prompt": None}, {"prompt": ""}, {"prompt": []}])
def test_without_a_prompt_it_is_no_completion(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError) as refused:
        completions(**fields)
    assert refused.value.message == "invalid completions request: must have prompt field"
    assert refused.value.param == "prompt"


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (5, "prompt"),
        ({"a": 1}, "prompt"),
        (True, "prompt"),
        (["a", 1], "prompt[1]"),
        ([1, "a"], "prompt[1]"),
        ([1, -1], "prompt[1]"),
        ([2**32], "prompt[0]"),
        ([1.5], "prompt[0]"),
        ([[1], 2], "prompt[1]"),
        ([None], "prompt[0]"),
        ([{}], "prompt[0]"),
    ],
)
def test_another_form_of_prompt_is_refused_by_name(prompt: Any, param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        completions(prompt=prompt)
    assert refused.value.param == param


def test_embeddings_have_an_input_and_no_output() -> None:
    parsed = OpenAiEmbeddingsParser().parse(b'{"model":"m","input":["a","b"],"stream":true}')
    assert (parsed.api, parsed.prompts) == ("openai-embeddings", (b"a", b"b"))
    assert (parsed.max_output_tokens, parsed.stream) == (0, False)
    with pytest.raises(BadRequestError, match="invalid embeddings request: must have input"):
        OpenAiEmbeddingsParser().parse(b'{"model":"m"}')


def test_images_are_made_from_a_prompt() -> None:
    parsed = OpenAiImagesParser().parse(b'{"model":"m","prompt":"a train","n":2}')
    assert (parsed.api, parsed.model, parsed.prompts) == ("openai-images", "m", (b"a train",))
    with pytest.raises(BadRequestError, match="must have prompt field"):
        OpenAiImagesParser().parse(b'{"model":"m","prompt":""}')


def test_generate_takes_token_ids() -> None:
    body = b'{"model":"m","token_ids":[1,2],"sampling_params":{"max_tokens":5,"n":1},"stream":true}'
    parsed = VllmGenerateParser().parse(body)
    assert (parsed.api, parsed.prompt_tokens) == ("vllm-generate", 2)
    assert (parsed.max_output_tokens, parsed.stream) == (5, True)
    with pytest.raises(BadRequestError, match="must have token_ids field"):
        VllmGenerateParser().parse(b'{"model":"m","token_ids":[]}')
