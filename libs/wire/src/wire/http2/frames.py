"""Frames as bytes, RFC 9113 sections 4 and 6.

    +-----------------------------------------------+
    |                 Length (24)                   |
    +---------------+---------------+---------------+
    |   Type (8)    |   Flags (8)   |
    +-+-------------+---------------+-------------------------------+
    |R|                 Stream Identifier (31)                      |
    +=+=============================================================+
    |                   Frame Payload (0...)                      ...

Length and type are packed and read as one 32-bit number: `length << 8 | type`.
"""

from struct import Struct
from typing import Final

from wire.http2.errors import ErrorCode, protocol_error

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends before its first frame (section 3.4)."""

# Types, section 6. Plain numbers: the hot path compares them for each frame.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
TYPE_NAMES: Final = (
    *("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE"),
    *("PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"),
)

# Flags; ACK and END_STREAM share a bit and never a frame.
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

HEADER_BYTES: Final = 9
MAX_STREAM_ID: Final = 0x7FFF_FFFF
MIN_MAX_FRAME_BYTES: Final = 1 << 14
"""Every peer takes frames of this size (section 4.2)."""

_HEADER = Struct(">IBI")
_UINT32 = Struct(">I")

pack_header: Final = _HEADER.pack
"""`(length << 8 | type, flags, stream id)` to 9 bytes."""
unpack_header: Final = _HEADER.unpack_from
pack_uint32: Final = _UINT32.pack


def read_uint32(payload: bytes, offset: int = 0) -> int:
    number: int = _UINT32.unpack_from(payload, offset)[0]
    return number


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return pack_header(len(payload) << 8 | kind, flags, stream_id) + payload


def headers_frames(stream_id: int, block: bytes, *, end_stream: bool, max_bytes: int) -> bytes:
    """A header block as HEADERS and, past `max_bytes`, CONTINUATION frames (section 4.3)."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= max_bytes:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [block[start : start + max_bytes] for start in range(0, len(block), max_bytes)]
    frames = [frame(HEADERS, flags, stream_id, parts[0])]
    frames += [frame(CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, stream_id, parts[-1]))
    return b"".join(frames)


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    return frame(RST_STREAM, 0, stream_id, pack_uint32(code))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, pack_uint32(increment))


def goaway(last_stream_id: int, code: ErrorCode, reason: str = "") -> bytes:
    """`reason` is debug data for the peer's log, at most 128 bytes of it."""
    payload = pack_uint32(last_stream_id) + pack_uint32(code) + reason.encode()[:128]
    return frame(GOAWAY, 0, 0, payload)


def strip_padding(payload: bytes, flags: int) -> bytes:
    """The content of a DATA or HEADERS frame without its padding (section 6.1).

    Raises:
        Http2ConnectionError: more padding than payload.
    """
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise protocol_error("padding exceeds the frame")
    return payload[1 : len(payload) - payload[0]]
