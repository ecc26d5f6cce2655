"""SETTINGS of either end, RFC 9113 section 6.5."""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Final

from wire.http2.errors import ErrorCode, Http2ConnectionError, protocol_error
from wire.http2.frames import MIN_MAX_FRAME_BYTES, SETTINGS, frame
from wire.http2.limits import Limits

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

DEFAULT_WINDOW_BYTES: Final = 65_535
DEFAULT_HEADER_TABLE_BYTES: Final = 4096
MAX_WINDOW_BYTES: Final = 0x7FFF_FFFF
_MAX_FRAME_BYTES: Final = (1 << 24) - 1

_ENTRY = Struct(">HI")


@dataclass(slots=True)
class PeerSettings:
    """What the peer announced; the defaults hold until it does."""

    header_table_bytes: int = DEFAULT_HEADER_TABLE_BYTES
    max_concurrent_streams: int = 1 << 31
    initial_window_bytes: int = DEFAULT_WINDOW_BYTES
    max_frame_bytes: int = MIN_MAX_FRAME_BYTES
    wants_push: bool = False
    """It said ENABLE_PUSH 1, which only a client may (section 6.5.2); we push nothing."""

    def apply(self, payload: bytes) -> None:
        """Take one SETTINGS payload, entries in order; unknown ones are ignored.

        Raises:
            Http2ConnectionError: a length or value that section 6.5.2 forbids.
        """
        if len(payload) % _ENTRY.size:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a broken length")
        for identifier, value in _ENTRY.iter_unpack(payload):
            if identifier == HEADER_TABLE_SIZE:
                self.header_table_bytes = value
            elif identifier == ENABLE_PUSH:
                if value > 1:
                    raise protocol_error("ENABLE_PUSH is neither 0 nor 1")
                self.wants_push = bool(value)
            elif identifier == MAX_CONCURRENT_STREAMS:
                self.max_concurrent_streams = value
            elif identifier == INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW_BYTES:
                    raise Http2ConnectionError(
                        ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE over 2^31 - 1"
                    )
                self.initial_window_bytes = value
            elif identifier == MAX_FRAME_SIZE:
                if not MIN_MAX_FRAME_BYTES <= value <= _MAX_FRAME_BYTES:
                    raise protocol_error("MAX_FRAME_SIZE out of its range")
                self.max_frame_bytes = value


def settings_frame(values: Mapping[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_ENTRY.pack(*item) for item in values.items()))


def server_settings(limits: Limits) -> bytes:
    return settings_frame(
        {MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams, **_common(limits)}
    )


def client_settings(limits: Limits) -> bytes:
    return settings_frame({ENABLE_PUSH: 0, **_common(limits)})


def _common(limits: Limits) -> dict[int, int]:
    return {
        INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
        MAX_FRAME_SIZE: limits.max_frame_bytes,
        MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
    }
