"""What holds for a connection between any two reads, whatever its peer does."""

# pyright: reportPrivateUsage=false
# What has to hold is just what nobody else should look at.

from wire.http2.connection import Connection
from wire.http2.frames import (
    DATA,
    END_STREAM,
    GOAWAY,
    HEADER_BYTES,
    HEADERS,
    RST_STREAM,
    WINDOW_UPDATE,
)
from wire.http2.server_connection import ServerConnection
from wire.http2.settings import DEFAULT_HEADER_TABLE_BYTES, MAX_WINDOW_BYTES
from wire.http2.stream import Stream
from wire.testing.scripted_peer import Frame

_MOST_REMEMBERED = 1024
"""Resets, blocks, strings and fields kept by one connection."""


class InvariantError(AssertionError):
    """A connection is in a state that it should never be in."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantError(what)


def check_connection(connection: Connection) -> None:
    """Raises InvariantError when windows, streams or memory are out of their bounds."""
    limits = connection.limits
    if connection.closing:
        require(not connection.streams, "a connection that is over has streams")
        return
    if isinstance(connection, ServerConnection):
        limit = limits.max_concurrent_streams
        require(len(connection.streams) <= limit, "more streams than allowed")
    for stream_id, stream in connection.streams.items():
        require(stream.id == stream_id <= connection.last_stream_id, "a stream that nobody opened")
        _check_stream(stream, limits.stream_window_bytes)
    held = sum(stream.held_bytes for stream in connection.streams.values())
    require(connection.buffered_bytes == held, "held bytes are not accounted for")
    require(held <= limits.max_buffered_bytes, "more is held than allowed")
    require(connection.send_window <= MAX_WINDOW_BYTES, "window of the connection over 2^31 - 1")
    window = connection._receive_window
    require(window / 2 <= connection._receive_left <= window, "connection window not granted again")
    require(connection.send_window >= 0, "sent more than the connection window")
    _check_memory(connection)


def _check_stream(stream: Stream, window: int) -> None:
    require(not stream.closed, "a closed stream is in the table")
    require(not (stream.local_done and stream.remote_done), "a stream that is over is in the table")
    require(0 <= stream.receive_left <= window, "receive window out of bounds")
    require(stream.send_window <= MAX_WINDOW_BYTES, "send window over 2^31 - 1")
    require(not (stream.local_done and stream.queue), "DATA is queued behind the end of a stream")
    require(stream.held_bytes >= 0, "less than nothing is held")
    require(stream.content_left is None or stream.content_left >= 0, "too much content taken")


def _check_memory(connection: Connection) -> None:
    limits, reader = connection.limits, connection._headers_reader
    frame_bytes = HEADER_BYTES + limits.max_frame_bytes
    require(len(connection._rest) < frame_bytes, "more kept unread than one frame")
    block = len(connection._block)
    require(block <= limits.max_header_block_bytes + frame_bytes, "header block without bound")
    require(len(connection._reset_by_us) <= _MOST_REMEMBERED, "resets remembered without bound")
    kept = (reader._blocks, reader._strings, reader._good_fields)
    require(all(len(cache) <= _MOST_REMEMBERED for cache in kept), "cache without bound")
    require(reader._table._current_size <= DEFAULT_HEADER_TABLE_BYTES, "table over its size")
    in_line = [*connection._line]
    require(len(in_line) == len(set(map(id, in_line))), "a stream stands in line twice")


class OutputWatch:
    """Reads what a connection says, and finds what no peer would accept."""

    def __init__(self) -> None:
        self._ended: set[int] = set()
        self._reset: set[int] = set()

    def check(self, frames: list[Frame], connection: Connection) -> None:
        """Raises InvariantError; `frames` are those said since the last call."""
        for position, frame in enumerate(frames):
            if frame.kind in {DATA, HEADERS}:
                require(frame.stream_id not in self._ended, "DATA or HEADERS behind END_STREAM")
                require(frame.stream_id not in self._reset, "DATA or HEADERS behind RST_STREAM")
                if frame.flags & END_STREAM:
                    self._ended.add(frame.stream_id)
            elif frame.kind == RST_STREAM:
                self._reset.add(frame.stream_id)
            elif frame.kind == WINDOW_UPDATE:
                require(frame.stream_id not in self._reset, "WINDOW_UPDATE behind RST_STREAM")
            elif frame.kind == GOAWAY and connection.has_failed:
                is_last = frame.code != 0 and position == len(frames) - 1
                require(is_last or frame.code == 0, "frames behind the last GOAWAY")
            largest = max(connection.peer.max_frame_bytes, 1 << 14)
            require(len(frame.payload) <= largest, "frame larger than the peer takes")
