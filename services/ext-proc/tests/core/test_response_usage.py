import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_ext_proc.core.exchange_events import Usage
from pointsman_ext_proc.core.response_usage import SseUsage, usage_in_json

OPENAI_USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 3},
}
RESPONSES_USAGE = {
    "input_tokens": 5,
    "output_tokens": 6,
    "input_tokens_details": {"cached_tokens": 2},
}
ANTHROPIC_USAGE = {"input_tokens": 4, "cache_read_input_tokens": 16, "output_tokens": 9}


def events(*data: object) -> bytes:
    return b"".join(b"data: " + json.dumps(item).encode() + b"\n\n" for item in data)


OPENAI_STREAM = (
    events({"choices": [{"delta": {"content": 'say \\"usage\\"'}}], "usage": None})
    + events({"choices": [], "usage": OPENAI_USAGE})
    + b"data: [DONE]\n\n"
)
RESPONSES_STREAM = b"event: response.created\n" + events(
    {"type": "response.created", "response": {"usage": None}},
    {"type": "response.completed", "response": {"usage": RESPONSES_USAGE}},
)
ANTHROPIC_STREAM = events(
    {"type": "message_start", "message": {"usage": {**ANTHROPIC_USAGE, "output_tokens": 1}}},
    {"type": "content_block_delta", "delta": {"text": "hello"}},
    {"type": "message_delta", "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"usage": OPENAI_USAGE}, Usage(7, 10, 3)),
        ({"usage": RESPONSES_USAGE}, Usage(5, 6, 2)),
        ({"usage": ANTHROPIC_USAGE}, Usage(20, 9, 16)),
        ({"usage": {"prompt_tokens": 7, "total_tokens": 7}}, Usage(7, None, None)),
        ({"usage": {"prompt_tokens": True, "completion_tokens": -1}}, Usage()),
        ({"usage": None}, None),
        ({"message": 'an error that mentions "usage"', "usage": OPENAI_USAGE}, Usage(7, 10, 3)),
        ({"object": "list"}, None),
    ],
)
def test_counts_are_found_in_each_api_s_json(answer: object, expected: Usage | None) -> None:
    assert usage_in_json(json.dumps(answer).encode()) == expected


@pytest.mark.parametrize("body", [b"", b'{"usage"', b'"usage"', b'["usage"]', b'\xff"usage"'])
def test_what_is_no_answer_has_no_counts(body: bytes) -> None:
    assert usage_in_json(body) is None


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (OPENAI_STREAM, Usage(7, 10, 3)),
        (RESPONSES_STREAM, Usage(5, 6, 2)),
        (ANTHROPIC_STREAM, Usage(20, 9, 16)),
    ],
)
@given(data=st.data())
def test_counts_of_a_stream_are_found_however_it_is_cut(
    stream: bytes, expected: Usage, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=30))
    reader = SseUsage()
    for start, end in pairwise([0, *sorted(cuts), len(stream)]):
        reader.feed(stream[start:end])
    assert reader.result() == expected


def test_lines_may_end_with_carriage_returns_and_the_last_with_nothing() -> None:
    reader = SseUsage()
    reader.feed(OPENAI_STREAM.replace(b"\n", b"\r\n"))
    assert reader.result() == Usage(7, 10, 3)
    reader = SseUsage()
    reader.feed(events({"usage": OPENAI_USAGE}).rstrip(b"\n"))
    assert reader.result() == Usage(7, 10, 3)


def test_a_line_without_end_is_let_go_and_the_counts_after_it_are_found() -> None:
    reader = SseUsage()
    for _ in range(40):
        reader.feed(b"x" * 100_000)
    reader.feed(b"end of it\n" + events({"usage": OPENAI_USAGE}))
    assert reader.result() == Usage(7, 10, 3)
    assert len(reader._rest) == 0
