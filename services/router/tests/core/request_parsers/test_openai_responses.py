import json
from typing import Any

import pytest

from pointsman_common.errors import BadRequestError
from pointsman_router.core.request_parsers.openai_responses import OpenAiResponsesParser
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest


def parse(**fields: Any) -> ParsedRequest:
    return OpenAiResponsesParser().parse(json.dumps({"model": "m", **fields}).encode())


def test_the_fields_that_layers_need_are_read() -> None:
    parsed = parse(input="hi", stream=True, max_output_tokens=9)
    assert (parsed.api, parsed.stream, parsed.max_output_tokens) == ("openai-responses", True, 9)


@pytest.mark.parametrize("fields", [{}, {"input": ""}, {"input": []}, {"input": None}])
def test_without_an_input_it_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match=r"^invalid responses request: must have input field"):
        parse(**fields)


def test_a_text_is_how_the_conversation_that_follows_begins() -> None:
    [first] = parse(input="What is it?", instructions="Be brief.").prompts
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "What is it?"}]},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": "42"},
    ]
    [second] = parse(input=items, instructions="Be brief.").prompts
    assert second.startswith(first)
    assert b"{}" in second and b"42" in second
