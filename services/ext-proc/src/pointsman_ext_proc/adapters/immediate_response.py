"""A refusal in the words of HTTP: status, headers and a body of one line."""

from collections.abc import Mapping

import msgspec

from pointsman_common.contracts.layer_pb2 import Rejection
from pointsman_common.error_mapping import EVICTED
from pointsman_ext_proc.core.endpoint_headers import DROPPED_REASON
from pointsman_ext_proc.core.exchange_events import Headers

OPENAI_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
"""`error.type` by status; other 4xx are invalid_request_error, 5xx server_error."""


class ImmediateAnswer(msgspec.Struct, frozen=True):
    http_status: int
    headers: Headers
    body: bytes


def immediate_answer(
    rejection: Rejection, more_headers: Headers = (), *, error_format: str
) -> ImmediateAnswer:
    """`error_format` is `openai` (error JSON) or `upstream` (text, without a content type)."""
    status = rejection.http_status if 400 <= rejection.http_status <= 599 else 500
    headers: list[tuple[str, bytes]] = []
    if error_format == "openai":
        headers.append(("content-type", b"application/json"))
        body = _openai_body(rejection, status)
    elif rejection.reason == EVICTED:  # the one text that upstream gives without its prefix
        body = rejection.message.encode()
    else:
        body = f"inference error: {rejection.code} - {rejection.message}".encode()
    if rejection.reason:
        headers.append((DROPPED_REASON, rejection.reason.encode()))
    if rejection.retry_after_s:
        headers.append(("retry-after", b"%d" % rejection.retry_after_s))
    return ImmediateAnswer(status, (*headers, *more_headers), body)


def _openai_body(rejection: Rejection, status: int) -> bytes:
    kind = OPENAI_TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    error = {
        "message": rejection.message,
        "type": kind,
        "param": rejection.param or None,
        "code": rejection.reason or _snake(rejection.code) or None,
    }
    return msgspec.json.encode({"error": error}) + b"\n"


def _snake(code: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in code).lstrip("_")
