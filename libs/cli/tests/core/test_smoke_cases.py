"""The judgement of a gateway's answers."""

import json

import pytest

from pointsman_cli.core.smoke_cases import Answer, SmokeCase, smoke_cases

CASES = {case.name: case for case in smoke_cases("llama", "llama-sql")}
JSON = "application/json"


def judge(case: SmokeCase, status: int, body: bytes, content_type: str = JSON) -> str:
    return case.judge(Answer(status, content_type, body))


def test_a_chat_answer_with_content_is_right() -> None:
    body = json.dumps({"choices": [{"message": {"content": "North."}}]}).encode()
    assert judge(CASES["chat"], 200, body) == ""
    assert "status 503" in judge(CASES["chat"], 503, body)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"choices": []}', b'{"choices": [{"message": {"content": ""}}]}']
)
def test_a_chat_answer_without_content_is_wrong(body: bytes) -> None:
    assert judge(CASES["chat"], 200, body)


def test_a_stream_needs_chunks_and_its_end() -> None:
    stream = "text/event-stream; charset=utf-8"
    whole = b'data: {"a": 1}\n\ndata: {"a": 2}\n\ndata: [DONE]\n\n'
    case = CASES["chat, streamed"]
    assert judge(case, 200, whole, stream) == ""
    assert "event stream" in judge(case, 200, whole)
    assert "[DONE]" in judge(case, 200, whole.replace(b"data: [DONE]", b""), stream)
    assert "one piece" in judge(case, 200, b'data: {"a": 1}\n\ndata: [DONE]\n\n', stream)
    assert "not JSON" in judge(case, 200, b"data: {\n\ndata: [DONE]\n\n", stream)


def test_the_model_list_must_name_the_model() -> None:
    assert judge(CASES["models"], 200, b'{"data": [{"id": "llama"}]}') == ""
    assert judge(CASES["models"], 200, b'{"data": [{"id": "other"}]}')


def test_a_refusal_needs_its_status_and_openais_error_form() -> None:
    error = b'{"error": {"message": "no such model", "type": "x"}}'
    assert judge(CASES["unknown model"], 404, error) == ""
    assert "200 instead of 404" in judge(CASES["unknown model"], 200, error)
    assert "no error object" in judge(CASES["unknown model"], 404, b"not found")


def test_a_pool_without_an_adapter_is_not_asked_for_one() -> None:
    names = [case.name for case in smoke_cases("llama", "")]
    assert "chat with an adapter" not in names
