"""How vLLM says no: one JSON shape for every error, and its wording of a body it cannot take."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Never

import msgspec
from aiohttp import web


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self, status: HTTPStatus, message: str, *, kind: str, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param = status, message, kind, param

    def response(self) -> web.Response:
        """Return the answer in vLLM's shape."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": int(self.status),
        }
        return web.Response(
            status=self.status,
            body=msgspec.json.encode({"error": error}),
            content_type="application/json",
        )


def bad_request(message: str, param: str | None = None) -> ApiError:
    """Return a 400 for a request that parses but cannot be served."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, kind="BadRequestError", param=param)


def internal_error() -> ApiError:
    """Return a 500."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return ApiError(status, status.phrase, kind="InternalServerError")


def from_http_exception(exception: web.HTTPException) -> ApiError:
    """Return what vLLM makes of an error of its web framework: unknown path, wrong method."""
    status = HTTPStatus(exception.status)
    return ApiError(status, status.phrase, kind=status.phrase)


def raise_body_error(body: bytes, error: Exception) -> Never:
    """Say what is wrong with a body that did not decode."""
    if not body:
        _raise_validation("missing", "body", "Field required", None)
    try:
        value = json.loads(body)
    except json.JSONDecodeError as reason:
        where, context = f"body.{reason.pos}", {"error": reason.msg}
        _raise_validation("json_invalid", where, "JSON decode error", {}, context)
    except (UnicodeDecodeError, RecursionError) as reason:
        _raise_validation("json_invalid", "body.0", "JSON decode error", {}, {"error": str(reason)})
    if not isinstance(value, dict):
        wanted = "Input should be a valid dictionary or object to extract fields from"
        _raise_validation("model_attributes_type", "body", wanted, value)
    # msgspec says: Object missing required field `role` - at `$.messages[0]`
    message, _, path = str(error).partition(" - at `$")
    where = "body" + path.rstrip("`").replace("[", ".").replace("]", "")
    missing = message.removeprefix("Object missing required field `")
    if missing != message:
        _raise_validation("missing", f"{where}.{missing.rstrip('`')}", "Field required", value)
    _raise_validation("type_error", where, message, value)


def _raise_validation(
    kind: str, where: str, message: str, value: object, context: Mapping[str, str] | None = None
) -> Never:
    shown = str(value)
    if isinstance(value, dict | list):
        shown = f"<{type(value).__name__} of {len(value)} items>"
    detail: dict[str, object] = {"type": kind, "loc": where, "msg": message, "input": shown}
    if context:
        detail["ctx"] = context
    raise ApiError(
        HTTPStatus.BAD_REQUEST,
        f"1 validation error:\n  {detail}",
        kind=HTTPStatus.BAD_REQUEST.phrase,
        param=where,
    )
