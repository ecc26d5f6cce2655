"""How a call's end is written: trailers, HTTP statuses, RST_STREAM codes, and what they mean."""

from urllib.parse import quote, unquote

from wire.grpc.metadata import encode_metadata
from wire.http2.errors import ErrorCode
from wire.http2.header_encoding import encode_fields
from wire.status import Metadata, RpcStatus

_PLAIN_IN_MESSAGE = "".join(chr(octet) for octet in range(0x20, 0x7F) if octet != ord("%"))

OK_TRAILERS = encode_fields([(b"grpc-status", b"0")])

_STATUS_OF_HTTP = {
    400: RpcStatus.INTERNAL,
    401: RpcStatus.UNAUTHENTICATED,
    403: RpcStatus.PERMISSION_DENIED,
    404: RpcStatus.UNIMPLEMENTED,
    429: RpcStatus.UNAVAILABLE,
    502: RpcStatus.UNAVAILABLE,
    503: RpcStatus.UNAVAILABLE,
    504: RpcStatus.UNAVAILABLE,
}
"""https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md"""

_STATUS_OF_RESET = {
    ErrorCode.REFUSED_STREAM: RpcStatus.UNAVAILABLE,
    ErrorCode.CANCEL: RpcStatus.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: RpcStatus.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: RpcStatus.PERMISSION_DENIED,
}
"""The rest is INTERNAL: "Errors" of the protocol's description."""


def encode_trailers(
    status: RpcStatus, message: str = "", metadata: Metadata | None = None
) -> bytes:
    """Raises ValueError when the metadata is none (see `encode_metadata`)."""
    if status is RpcStatus.OK and not message:
        return OK_TRAILERS
    fields = [(b"grpc-status", b"%d" % status)]
    if message:
        fields.append((b"grpc-message", quote(message, safe=_PLAIN_IN_MESSAGE).encode()))
    return encode_fields(fields) + (encode_metadata(metadata) if metadata else b"")


def parse_status(value: bytes) -> RpcStatus:
    """Numbers that nobody knows are UNKNOWN."""
    try:
        return RpcStatus(int(value))
    except ValueError:
        return RpcStatus.UNKNOWN


def parse_message(value: bytes) -> str:
    return unquote(value.decode("latin-1"), errors="replace")


def status_of_http(http_status: int) -> RpcStatus:
    return _STATUS_OF_HTTP.get(http_status, RpcStatus.UNKNOWN)


def status_of_reset(code: ErrorCode | None) -> RpcStatus:
    """`None` is a lost connection."""
    if code is None:
        return RpcStatus.UNAVAILABLE
    return _STATUS_OF_RESET.get(code, RpcStatus.INTERNAL)
