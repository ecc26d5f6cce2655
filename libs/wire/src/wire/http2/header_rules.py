"""Which header blocks are well formed, RFC 9113 section 8.3; their fields alone: `field_rules`.

A malformed block is a fault of its stream alone: it was decompressed, so the connection is sound.
"""

from wire.http2.errors import ErrorCode, Http2StreamError
from wire.http2.hpack_cache import HeaderBlock

_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_RESPONSE_PSEUDO = frozenset((b":status",))
_NO_PSEUDO: frozenset[bytes] = frozenset()
_COLON = ord(":")
_REQUIRED = (b":method", b":scheme", b":path")


def request_pseudo_fields(block: HeaderBlock) -> dict[bytes, bytes]:
    """The pseudo-fields of a request, the first of its fields; the block is checked whole.

    Raises:
        Http2StreamError: PROTOCOL_ERROR, the block is malformed.
    """
    pseudo = _check(block, _REQUEST_PSEUDO)
    for name in _REQUIRED:
        if not pseudo.get(name):
            raise _malformed(f"no {name.decode()}")
    return pseudo


def response_status(block: HeaderBlock) -> int | None:
    """The `:status` of a response, the first of its fields; `None` when these are trailers.

    Raises:
        Http2StreamError: PROTOCOL_ERROR, the block is malformed.
    """
    status = _check(block, _RESPONSE_PSEUDO).get(b":status")
    if status is None:
        return None
    if len(status) != 3 or not status.isdigit():
        raise _malformed(":status is no number of three digits")
    return int(status)


def check_trailers(block: HeaderBlock) -> None:
    """Raises Http2StreamError when trailers hold pseudo-fields or are malformed else."""
    _check(block, _NO_PSEUDO)


def _check(block: HeaderBlock, allowed_pseudo: frozenset[bytes]) -> dict[bytes, bytes]:
    if block.fault is not None:
        raise _malformed(block.fault)
    pseudo: dict[bytes, bytes] = {}
    is_regular = False
    for name, value in block.fields:
        if name[0] != _COLON:
            is_regular = True
        elif is_regular or name in pseudo or name not in allowed_pseudo:
            raise _malformed("pseudo-field late, doubled or unknown")
        else:
            pseudo[name] = value
    return pseudo


def _malformed(reason: str) -> Http2StreamError:
    return Http2StreamError(ErrorCode.PROTOCOL_ERROR, reason)
