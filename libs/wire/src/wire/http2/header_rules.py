"""Which header blocks are well formed, RFC 9113 sections 8.2 and 8.3.

A malformed block is a fault of its stream alone: it was decompressed, so the connection is sound.
"""

from collections.abc import Iterator
from re import compile as pattern

from wire.http2.errors import ErrorCode, Http2StreamError
from wire.http2.hpack_cache import Field, HeaderBlock

_NAME = pattern(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN_IN_VALUE = pattern(rb"[\x00\r\n]")
_CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_REQUIRED = (b":method", b":scheme", b":path")


def request_pseudo_fields(block: HeaderBlock) -> dict[bytes, bytes]:
    """The pseudo-fields of a request, whose block is checked whole.

    Raises:
        Http2StreamError: PROTOCOL_ERROR, the block is malformed.
    """
    pseudo = _check(block, _REQUEST_PSEUDO)
    for name in _REQUIRED:
        if not pseudo.get(name):
            raise _malformed(f"no {name.decode()}")
    return pseudo


def response_status(block: HeaderBlock) -> int | None:
    """The `:status` of a response; `None` when the block is one of trailers.

    Raises:
        Http2StreamError: PROTOCOL_ERROR, the block is malformed.
    """
    status = _check(block, frozenset((b":status",))).get(b":status")
    if status is None:
        return None
    if len(status) != 3 or not status.isdigit():
        raise _malformed(":status is no number of three digits")
    return int(status)


def check_trailers(block: HeaderBlock) -> None:
    """Raises Http2StreamError when trailers hold pseudo-fields or are malformed else."""
    _check(block, frozenset())


def regular_fields(block: HeaderBlock) -> Iterator[Field]:
    return (field for field in block.fields if not field[0].startswith(b":"))


def _check(block: HeaderBlock, allowed_pseudo: frozenset[bytes]) -> dict[bytes, bytes]:
    pseudo: dict[bytes, bytes] = {}
    is_regular = False
    for name, value in block.fields:
        if name.startswith(b":"):
            if is_regular or name in pseudo or name not in allowed_pseudo:
                raise _malformed("pseudo-field late, doubled or unknown")
            pseudo[name] = value
        else:
            is_regular = True
            _check_regular(name, value)
        if (
            _FORBIDDEN_IN_VALUE.search(value)
            or value[:1] in (b" ", b"\t")
            or value[-1:] in (b" ", b"\t")
        ):
            raise _malformed("forbidden octet in a field value")
    return pseudo


def _check_regular(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise _malformed("forbidden octet in a field name")
    if name in _CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
        raise _malformed("connection-specific field")


def _malformed(reason: str) -> Http2StreamError:
    return Http2StreamError(ErrorCode.PROTOCOL_ERROR, reason)
