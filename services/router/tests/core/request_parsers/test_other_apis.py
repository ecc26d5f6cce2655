"""Rerank, forms, and the APIs that engines have of their own."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.endpoint_picker_config import parse_endpoint_picker_config
from pointsman_common.errors import BadRequestError
from pointsman_router.core.request_headers import RequestHeaders
from pointsman_router.core.request_parsers.multipart_form import field_place
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.registry import ParserRegistry

DEFAULT = ParserRegistry.from_config(None)
TYPES = ("sglanghttp-parser", "vllmgrpc-parser", "vertexai-parser", "passthrough-parser")
ENGINES = ParserRegistry.from_config(
    parse_endpoint_picker_config(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n"
        + "".join(f"- type: {name}\n" for name in TYPES)
        + "requestHandler:\n  parsers:\n"
        + "".join(f"  - pluginRef: {name}\n" for name in TYPES)
    )
)


def parsed(
    path: str, body: bytes, registry: ParserRegistry = DEFAULT, **headers: str
) -> ParsedRequest:
    items = {":path": path, **{name.replace("_", "-"): text for name, text in headers.items()}}
    given_headers = RequestHeaders([(name, text.encode()) for name, text in items.items()])
    return registry.parse(given_headers, body)


def refused(path: str, body: bytes, registry: ParserRegistry = DEFAULT, **headers: str) -> str:
    with pytest.raises(BadRequestError) as error:
        parsed(path, body, registry, **headers)
    assert error.value.message.isprintable()
    return error.value.message


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank_has_a_prompt_for_each_document_behind_the_query(path: str) -> None:
    body = {"model": "m", "query": "q", "documents": ["a", {"text": "bb"}], "top_n": 1}
    read = parsed(path, json.dumps(body).encode())
    assert (read.api, read.model, read.stream) == ("rerank", "m", False)
    assert read.prompts == (b"q\x1ea", b"q\x1ebb")
    assert "must have documents field" in refused(path, b'{"model":"m","query":"q"}')


def form(*fields: tuple[str, bytes], boundary: str = "B", end: bytes = b"--B--\r\n") -> bytes:
    parts = [
        f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() + value + b"\r\n"
        for name, value in fields
    ]
    return b"".join(parts) + end


AUDIO = "/v1/audio/transcriptions"
FORM = "multipart/form-data; boundary=B"
SOUND = ('name="file"; filename="a.wav"', b"RIFF\r\n--C\r\n\x00\xff" * 50)


def test_of_a_form_the_model_is_read_and_its_place_told() -> None:
    body = form(SOUND, ('name="model"', b"whisper"), ('name="stream"', b"true"))
    read = parsed(AUDIO, body, content_type=FORM)
    assert (read.api, read.model, read.stream) == ("openai-audio", "whisper", True)
    assert read.model_at is not None and body[slice(*read.model_at)] == b"whisper"
    quoted = parsed(AUDIO, body, content_type='Multipart/Form-Data; charset=x; boundary="B"')
    assert quoted == read


@pytest.mark.parametrize(
    ("body", "content_type", "why"),
    [
        (form(SOUND), FORM, "model not found"),
        (form(('name="model"', b"")), FORM, "model not found"),
        (form(('name="model"', b"a"), ('name="model"', b"b")), FORM, "model stands twice"),
        (form(('name="model"; filename="x"', b"a")), FORM, "model must be a text"),
        (form(('name="model"', b"\xff")), FORM, "model must be UTF-8"),
        (form(('name="model"', b"x" * 2000)), FORM, "at most 1024 characters"),
        (form(('name="model"', b"a"), end=b""), FORM, "the form ends within a part"),
        (form(*[('name="x"', b"")] * 200), FORM, "more than 128 parts"),
        (b"--B\r\nX: " + b"a" * 9000 + b"\r\n\r\n\r\n--B--", FORM, "ends within a part"),
        (b"nothing", FORM, "does not begin with its boundary"),
        (b"", FORM, "does not begin with its boundary"),
        (form(SOUND), "application/json", "must be multipart/form-data"),
        (form(SOUND), "multipart/form-data", "must be multipart/form-data"),
        (form(SOUND), "multipart/form-data; boundary=" + "b" * 71, "must be multipart/form-data"),
    ],
)
def test_a_form_that_is_none_is_refused(body: bytes, content_type: str, why: str) -> None:
    assert why in refused(AUDIO, body, content_type=content_type)


@given(
    body=st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [b"--B", b"\r\n", b"--", b'content-disposition: form-data; name="model"', b"x"]
        ),
        max_size=20,
    ).map(b"".join)
)
def test_any_bytes_are_a_form_with_a_place_within_it_or_refused(body: bytes) -> None:
    try:
        place = field_place(body, b"B", "model")
    except BadRequestError:
        return
    if place is not None:
        assert 0 <= place[0] <= place[1] <= len(body)
        assert b"\r\n--B" not in body[slice(*place)]


def test_a_compressed_body_is_refused_where_it_would_be_read() -> None:
    assert "must not be encoded" in refused("/v1/completions", b"\x1f\x8b", content_encoding="gzip")
    assert parsed("/other", b"\x1f\x8b", content_encoding="gzip").api == "passthrough"


def test_sglangs_own_api() -> None:
    body = {
        "input_ids": [1, 2, 3],
        "sampling_params": {"max_new_tokens": 5, "n": 2},
        "stream": True,
        "extra_key": "salt",
        "lora_path": "sql",
    }
    read = parsed("/generate", json.dumps(body).encode(), ENGINES)
    assert (read.api, read.names_model, read.token_ids) == ("sglang-generate", False, True)
    assert (read.max_output_tokens, read.choices, read.stream) == (5, 2, True)
    assert (read.cache_salt, read.lora, read.prompt_tokens) == ("salt", "sql", 3)
    assert "input_ids must be provided" in refused("/generate", b'{"text":"x"}', ENGINES)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def frame(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


GENERATE = "/vllm.grpc.engine.VllmEngine/Generate"


def test_vllms_grpc() -> None:
    ids = field(2, varint(7) + varint(300))
    message = field(1, b"r") + field(2, ids) + field(4, field(8, 9) + field(15, 3)) + field(5, 1)
    read = parsed(GENERATE, frame(message + field(99, b"later")), ENGINES)
    assert (read.api, read.names_model, read.token_ids) == ("vllm-grpc-generate", False, True)
    assert (read.prompts, read.stream) == ((struct.pack("<2I", 7, 300),), True)
    assert (read.max_output_tokens, read.choices) == (9, 3)
    assert parsed(GENERATE, frame(field(3, b"hi")), ENGINES).prompts == (b"hi",)
    embed = parsed("/vllm.grpc.engine.VllmEngine/Embed", frame(field(2, ids)), ENGINES)
    assert (embed.api, embed.prompt_tokens) == ("vllm-grpc-embed", 2)
    assert parsed("/vllm.grpc.engine.VllmEngine/Abort", b"x", ENGINES).api == "passthrough"


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00\x00\x00\x00\x09x", b"\x01\x00\x00\x00\x00", frame(b"\xff"), frame(b"")],
)
def test_what_is_no_grpc_message_is_refused(body: bytes) -> None:
    assert refused(GENERATE, body, ENGINES)


def test_vertex_carries_an_openai_body_whose_model_stays() -> None:
    chat = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'
    path = "/google.cloud.aiplatform.v1beta1.PredictionService/ChatCompletions"
    read = parsed(
        path, frame(field(1, b"e") + field(2, field(1, b"json") + field(2, chat))), ENGINES
    )
    assert (read.api, read.model, read.names_model) == ("vertexai-chat", "m", False)
    assert read.stream and read.prompts == (b"\x1euser\x1fhi",)
    predict = path.replace("ChatCompletions", "RawPredict")
    body = frame(field(2, field(2, b'{"model":"m","input":"hi"}')))
    assert parsed(predict, body, ENGINES).api == "vertexai-predict"
    assert "no HttpBody" in refused(path, frame(field(1, b"e")), ENGINES)


def test_conversations_need_items_and_no_model() -> None:
    body: dict[str, Any] = {"items": [{"type": "message", "role": "user", "content": "hi"}]}
    read = parsed("/v1/conversations", json.dumps(body).encode())
    assert (read.api, read.names_model) == ("openai-conversations", False)
    named = parsed("/v1/conversations", json.dumps({**body, "model": "m"}).encode())
    assert (named.model, named.names_model) == ("m", True)
    assert "must have items field" in refused("/v1/conversations", b"{}")


def test_the_number_of_choices_is_told() -> None:
    chat = b'{"model":"m","messages":[{"role":"user","content":"x"}],"n":3}'
    assert parsed("/v1/chat/completions", chat).choices == 3
    assert parsed("/v1/completions", b'{"model":"m","prompt":[[1],[2]],"n":2}').token_ids
