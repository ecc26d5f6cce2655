import json

import pytest

from pointsman_common.contracts.layer_pb2 import Rejection
from pointsman_ext_proc.adapters.immediate_response import immediate_answer
from pointsman_ext_proc.core.eviction import EVICTION


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (412, "invalid_request_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_a_refusal_is_one_line_of_openai_s_error_json(status: int, kind: str) -> None:
    why = Rejection(http_status=status, code="NotFound", message='no "m"\nhere', param="model")
    answer = immediate_answer(why, error_format="openai")
    assert answer.http_status == status
    assert answer.headers == (("content-type", b"application/json"),)
    assert answer.body.count(b"\n") == 1
    assert json.loads(answer.body)["error"] == {
        "message": 'no "m"\nhere',
        "type": kind,
        "param": "model",
        "code": "not_found",
    }


def test_reason_and_wait_are_headers_when_they_are_set() -> None:
    why = Rejection(
        http_status=429, code="ResourceExhausted", reason="rejected-saturated", retry_after_s=3
    )
    answer = immediate_answer(why, error_format="openai")
    assert answer.headers[1:] == (
        ("x-llm-d-request-dropped-reason", b"rejected-saturated"),
        ("retry-after", b"3"),
    )
    assert json.loads(answer.body)["error"]["code"] == "rejected-saturated"


def test_upstream_s_format_is_plain_text_without_a_content_type() -> None:
    why = Rejection(http_status=400, code="BadRequest", message="model not found in request body")
    answer = immediate_answer(why, error_format="upstream")
    assert answer.headers == ()
    assert answer.body == b"inference error: BadRequest - model not found in request body"


@pytest.mark.parametrize("status", [0, 200, 302, 600])
def test_a_status_that_is_no_refusal_becomes_500(status: int) -> None:
    assert immediate_answer(Rejection(http_status=status), error_format="openai").http_status == 500


def test_further_headers_come_last() -> None:
    more = (("x-pointsman-queue-position", b"7"),)
    answer = immediate_answer(Rejection(http_status=429), more, error_format="upstream")
    assert answer.headers == more


def test_the_text_of_an_eviction_has_no_prefix_as_upstream_s() -> None:
    assert immediate_answer(EVICTION, error_format="upstream").body == EVICTION.message.encode()
