import json
from typing import Any

import pytest

from pointsman_common.errors import BadRequestError
from pointsman_router.core.request_parsers.openai_chat import OpenAiChatParser
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.prompt_text import IMAGE_TOKENS

USER = {"role": "user", "content": "What is a pointsman?"}


def parse(messages: Any, **more: Any) -> ParsedRequest:
    body = {"model": "m", "messages": messages, **more}
    return OpenAiChatParser().parse(json.dumps(body).encode())


def prompt(messages: Any, **more: Any) -> bytes:
    [only] = parse(messages, **more).prompts
    return only


def test_the_fields_that_layers_need_are_read() -> None:
    parsed = parse([USER], stream=True, max_completion_tokens=64, cache_salt="s", n=2, seed=1)
    assert (parsed.api, parsed.model, parsed.names_model) == ("openai-chat", "m", True)
    assert (parsed.stream, parsed.max_output_tokens, parsed.cache_salt) == (True, 64, "s")


@pytest.mark.parametrize(
    ("limits", "tokens"),
    [
        ({}, 0),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 7.0}, 7),
        ({"max_tokens": None}, 0),
        ({"max_tokens": -1}, 0),
        ({"max_tokens": 10**30}, 0xFFFFFFFF),
    ],
)
def test_the_output_limit_is_an_unsigned_number(limits: dict[str, Any], tokens: int) -> None:
    assert parse([USER], **limits).max_output_tokens == tokens


def test_a_limit_with_a_fraction_is_refused() -> None:
    with pytest.raises(BadRequestError, match="max_tokens must be a whole number") as refused:
        parse([USER], max_tokens=1.5)
    assert refused.value.param == "max_tokens"


@pytest.mark.parametrize("body", [{}, {"messages": None}, {"messages": []}])
def test_without_messages_it_is_no_chat(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError) as refused:
        OpenAiChatParser().parse(json.dumps({"model": "m", **body}).encode())
    why = "invalid chat completions request: must have valid messages field"
    assert (refused.value.message, refused.value.param) == (why, "messages")


def test_a_field_within_a_message_is_named() -> None:
    with pytest.raises(BadRequestError) as refused:
        parse([USER, {"role": "user", "content": [{"type": "text", "text": 5}]}])
    assert refused.value.param == "messages[1].content[0].text"


def test_text_counts_by_four_bytes_to_a_token() -> None:
    short, long = parse([{"role": "user", "content": "x"}]), parse([{"role": "user"}])
    assert short.prompt_tokens == len(short.prompts[0]) // 4 + 1
    assert parse([{"role": "user", "content": "é" * 400}]).prompt_tokens - long.prompt_tokens == 200


def test_the_next_turn_begins_with_the_bytes_of_the_last() -> None:
    call = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    turns = [
        {"role": "system", "content": "Be brief."},
        USER,
        {"role": "assistant", "content": None, "tool_calls": call},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is 42."}]},
    ]
    tools = [{"type": "function", "function": {"name": "f"}}]
    for length in range(1, len(turns)):
        shorter, longer = prompt(turns[:length], tools=tools), prompt(turns, tools=tools)
        assert longer.startswith(shorter) and longer != shorter


def test_text_parts_are_the_same_prompt_as_their_text() -> None:
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "you"}]
    whole = prompt([{"role": "user", "content": "Hello you"}])
    assert prompt([{"role": "user", "content": parts}]) == whole


def test_who_said_what_makes_a_difference() -> None:
    one = prompt([{"role": "user", "content": "ab"}])
    assert one != prompt([{"role": "assistant", "content": "ab"}])
    assert one != prompt([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    assert one != prompt([{"role": "user", "content": "ab"}], tools=[{"type": "function"}])


def test_an_image_counts_by_formula_however_many_bytes_it_has() -> None:
    def picture(data: str) -> list[dict[str, Any]]:
        url = {"url": f"data:image/png;base64,{data}"}
        return [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]

    empty = parse([{"role": "user", "content": []}])
    small, large = parse(picture("AAAA")), parse(picture("A" * 400_000))
    assert small.prompt_tokens == large.prompt_tokens == empty.prompt_tokens + IMAGE_TOKENS
    assert small.prompts != large.prompts
    assert parse(picture("AAAA")).prompts == small.prompts
