import json
from typing import Any

import pytest

from pointsman_common.errors import BadRequestError
from pointsman_router.core.request_parsers.anthropic import (
    AnthropicCountTokensParser,
    AnthropicMessagesParser,
)
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.prompt_text import IMAGE_TOKENS

USER = {"role": "user", "content": "hi"}


def parse(messages: Any, **fields: Any) -> ParsedRequest:
    body = {"model": "m", "max_tokens": 100, "messages": messages, **fields}
    return AnthropicMessagesParser().parse(json.dumps(body).encode())


def test_the_fields_that_layers_need_are_read() -> None:
    parsed = parse([USER], system="Be brief.", stream=True)
    assert (parsed.api, parsed.stream) == ("anthropic-messages", True)
    assert (parsed.max_output_tokens, parsed.reports_usage) == (100, True)


def test_the_system_prompt_comes_first_as_text_or_as_blocks() -> None:
    [text] = parse([USER], system="Be brief.").prompts
    [blocks] = parse([USER], system=[{"type": "text", "text": "Be brief."}]).prompts
    assert text == blocks and text.startswith(b"Be brief.")


def test_the_use_of_a_tool_and_its_result_are_part_of_the_prompt() -> None:
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {"city": "Bern"}}
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "9 degrees"}],
    }
    turns = [USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    [prompt] = parse(turns).prompts
    assert b'f{"city": "Bern"}' in prompt and b"9 degrees" in prompt
    assert prompt.startswith(parse(turns[:2]).prompts[0])


def test_a_picture_counts_by_formula() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 10_000}
    picture = parse([{"role": "user", "content": [{"type": "image", "source": source}]}])
    empty = parse([{"role": "user", "content": []}])
    assert picture.prompt_tokens == empty.prompt_tokens + IMAGE_TOKENS


def test_counting_tokens_reads_the_same_body_and_reports_no_usage() -> None:
    body = json.dumps({"model": "m", "messages": [USER]}).encode()
    parsed = AnthropicCountTokensParser().parse(body)
    assert (parsed.api, parsed.reports_usage) == ("anthropic-count-tokens", False)
    assert parsed.prompts == AnthropicMessagesParser().parse(body).prompts


def test_without_messages_it_is_refused() -> None:
    with pytest.raises(BadRequestError, match="must have valid messages field"):
        parse([])
