"""What no parser of JSON takes, whichever API it is for."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.errors import BadRequestError
from pointsman_router.core.request_parsers.anthropic import AnthropicMessagesParser
from pointsman_router.core.request_parsers.openai_chat import OpenAiChatParser
from pointsman_router.core.request_parsers.openai_completions import OpenAiCompletionsParser
from pointsman_router.core.request_parsers.openai_embeddings import OpenAiEmbeddingsParser
from pointsman_router.core.request_parsers.openai_images import OpenAiImagesParser
from pointsman_router.core.request_parsers.openai_responses import OpenAiResponsesParser
from pointsman_router.core.request_parsers.parsed_request import RequestParser
from pointsman_router.core.request_parsers.vllm_generate import VllmGenerateParser

PARSERS: list[RequestParser] = [
    OpenAiChatParser(),
    OpenAiCompletionsParser(),
    OpenAiEmbeddingsParser(),
    OpenAiImagesParser(),
    OpenAiResponsesParser(),
    AnthropicMessagesParser(),
    VllmGenerateParser(),
]
each_parser = pytest.mark.parametrize("parser", PARSERS, ids=lambda p: type(p).__name__)


@each_parser
@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"no healthy upstream", "JSON is malformed: invalid character (byte 4)"),
        (b"", "unexpected end of JSON input"),
        (b"  ", "unexpected end of JSON input"),
        (b'{"model":"m"', "unexpected end of JSON input"),
        (b'{"model":"m"} x', "JSON is malformed: trailing characters (byte 15)"),
        (b'{"x":NaN}', "JSON is malformed: invalid character (byte 5)"),
        (b"\xef\xbb\xbf{}", "JSON is malformed: invalid character (byte 0)"),
        (b"[]", "expected object, got array"),
        (b"null", "expected object, got null"),
        (b'"text"', "expected object, got str"),
        (b'{"unread":"\xff"}', "invalid UTF-8 at byte 11"),
        (b'{"model":"\xc3("}', "invalid UTF-8 at byte 10"),
        (b'{"x":' + b"[" * 100_000, "nested too deeply"),
        (b'{"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "nested too deeply"),
    ],
)
def test_what_is_no_json_object_is_refused_in_upstreams_words(
    parser: RequestParser, body: bytes, why: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        parser.parse(body)
    assert str(refused.value) == f"error unmarshaling request bodyMap: {why}"
    assert refused.value.param == ""


@each_parser
@pytest.mark.parametrize(("field", "value"), [("model", "5"), ("model", '["m"]'), ("model", "{}")])
def test_a_field_of_a_wrong_type_is_named(parser: RequestParser, field: str, value: str) -> None:
    with pytest.raises(BadRequestError, match=rf"^invalid .+ request: {field}: expected str") as e:
        parser.parse(f'{{"{field}":{value}}}'.encode())
    assert e.value.param == field


def complete(model: str) -> bytes:
    """A body that every parser takes, but for its model."""
    return (
        '{"messages":[{"role":"user","content":"hi"}],"prompt":"hi","input":"hi",'
        f'"token_ids":[1,2],{model}"x":1}}'
    ).encode()


@each_parser
@pytest.mark.parametrize("model", ["", '"model":null,', '"model":"",', '"Model":"m",'])
def test_a_body_without_a_model_is_refused(parser: RequestParser, model: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        parser.parse(complete(model))
    assert str(refused.value) == "model not found in request body"
    assert refused.value.param == "model"


@each_parser
def test_the_name_of_a_model_is_bounded(parser: RequestParser) -> None:
    assert len(parser.parse(complete(f'"model":"{"m" * 1024}",')).model) == 1024
    with pytest.raises(BadRequestError, match="at most 1024 characters") as refused:
        parser.parse(complete(f'"model":"{"m" * 1025}",'))
    assert refused.value.param == "model"


@each_parser
def test_of_duplicate_keys_the_last_counts(parser: RequestParser) -> None:
    assert parser.parse(complete('"model":"a","model":"b",')).model == "b"


@each_parser
def test_a_model_beside_whatever_else_is_enough(parser: RequestParser) -> None:
    assert parser.parse(complete('"model":"m","tools":null,"stream":null,')).model == "m"


@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_parsed_or_refused_in_one_line(body: bytes) -> None:
    for parser in PARSERS:
        refuse_or_parse(parser, body)


@given(seed=st.integers(0, 2**32), changes=st.integers(1, 8))
def test_a_damaged_body_is_parsed_or_refused_in_one_line(seed: int, changes: int) -> None:
    rng = Random(seed)
    body = bytearray(complete('"model":"m","tools":[{"a":[1.5e3,"\\u00e9\\n"]}],'))
    for _ in range(changes):
        body[rng.randrange(len(body))] = rng.choice(b'"{}[]:,\\0a-\x00\xff')
    for parser in PARSERS:
        refuse_or_parse(parser, bytes(body))


def refuse_or_parse(parser: RequestParser, body: bytes) -> None:
    try:
        parsed = parser.parse(body)
    except BadRequestError as refused:
        assert refused.message.isprintable(), "one line"
    else:
        assert parsed.model
