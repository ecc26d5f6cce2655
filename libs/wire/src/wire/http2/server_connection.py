"""The server's role: the peer opens streams, we accept, refuse and drain them.

Graceful drain in two steps (RFC 9113 section 6.8): GOAWAY with the highest number that there is,
and a PING. When the PING is answered the client has read the GOAWAY, and no stream that it opened
before is still under way: GOAWAY with the number of the last one. Close when all have ended.
"""

from collections.abc import Callable

from wire.http2.connection import Connection
from wire.http2.errors import ErrorCode, Http2StreamError, protocol_error
from wire.http2.frames import HEADERS, MAX_STREAM_ID, PING, PREFACE, frame, goaway, rst_stream
from wire.http2.hpack_cache import HeaderBlock
from wire.http2.limits import Limits
from wire.http2.settings import server_settings
from wire.http2.stream import Stream, StreamState

_DRAIN_PING = b"draining"


class AcceptedStream(Stream):
    """A stream that the peer opened."""

    __slots__ = ()

    def on_open(self) -> None:
        """Its head has been read, and it is in the table of streams."""


Accept = Callable[["ServerConnection", int, HeaderBlock], AcceptedStream]


class ServerConnection(Connection):
    def __init__(
        self, limits: Limits, *, accept: Accept, now: float, wake: Callable[[], None]
    ) -> None:
        """`accept` makes the owner of a new stream from its head, or raises Http2StreamError."""
        super().__init__(limits, now=now, wake=wake, prelude=PREFACE)
        self._accept = accept
        self._last_taken: int | None = None
        self.open_with_settings(server_settings(limits))

    def drain(self) -> None:
        """Begin a graceful end; `closing` follows when the open streams are over."""
        if self.is_draining or self.closing:
            return
        self.is_draining = True
        if not self.has_settings:
            self.cut_off("drained before it began")
        else:
            self.emit(goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR) + frame(PING, 0, 0, _DRAIN_PING))

    def goaway_id(self) -> int:
        return self.last_stream_id

    def on_pong(self, payload: bytes) -> None:
        if payload == _DRAIN_PING and self.is_draining and self._last_taken is None:
            self._last_taken = self.last_stream_id
            self.emit(goaway(self._last_taken, ErrorCode.NO_ERROR))
            if not self.streams:
                self.close_if_drained()

    def close_if_drained(self) -> None:
        if self._last_taken is not None:
            self.cut_off("drained")

    def on_goaway(self, last_stream_id: int, code: int, reason: str) -> None:
        """The client opens no further streams; it closes when it is done."""

    def on_new_stream(self, stream_id: int, block: HeaderBlock, *, is_last: bool) -> None:
        if not stream_id & 1:
            raise protocol_error("a client's streams have odd numbers")
        if stream_id <= self.last_stream_id:
            if is_last and self.state_of(stream_id) is StreamState.RESET_BY_US:
                self._forget_reset(stream_id)  # trailers that were under way
            else:
                self._judge(HEADERS, stream_id)
            return
        self.last_stream_id = stream_id
        if self._last_taken is not None:
            # Sent before the client read of our end: it may try elsewhere, at no charge.
            self._remember_reset(stream_id)
            self.emit(rst_stream(stream_id, ErrorCode.REFUSED_STREAM))
            return
        if len(self.streams) >= self.limits.max_concurrent_streams:
            self.refuse(stream_id, ErrorCode.REFUSED_STREAM)
            return
        try:
            stream = self._accept(self, stream_id, block)
        except Http2StreamError as error:
            self.refuse(stream_id, error.code)
            return
        self.streams[stream_id] = stream
        stream.content_left = block.content_length
        stream.on_open()
        if is_last and not stream.closed:
            self._end_remotely(stream)

    def ended_locally(self, stream: Stream) -> None:
        if not stream.remote_done and not stream.closed:
            # Answered before all was sent: the rest is not wanted (section 8.1).
            self._remember_reset(stream.id)
            self.emit(rst_stream(stream.id, ErrorCode.NO_ERROR))
        self.drop(stream)
