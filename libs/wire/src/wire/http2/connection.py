"""The life of a connection, whichever its role.

A connection is fed by `receive` and asked for its bytes by `take_output`; when `closing` is set,
what is left of the output is written and the transport closed. `ServerConnection` and
`ClientConnection` say who may open streams. Time is the caller's, in seconds of a clock that does
not go back.

    awaiting SETTINGS --SETTINGS--> open --drain or GOAWAY--> draining --last stream ends--> closing
           any state --fault, or the peer is lost--> closing
"""

from abc import abstractmethod
from collections.abc import Callable

from wire.http2.errors import ErrorCode, Http2ConnectionError, Http2StreamError
from wire.http2.flow_control import increment_due
from wire.http2.frames import goaway, rst_stream, window_update
from wire.http2.limits import Limits
from wire.http2.receiver import Receiver
from wire.http2.settings import DEFAULT_WINDOW_BYTES
from wire.http2.stream import Stream


class Connection(Receiver):
    """Base of both roles."""

    def __init__(
        self, limits: Limits, *, now: float, wake: Callable[[], None], prelude: bytes = b""
    ) -> None:
        """`prelude` is what the peer must send ahead of its first frame."""
        super().__init__(limits, now=now, wake=wake)
        self._prelude = prelude
        self.is_draining = False
        self.has_failed = False
        """We said GOAWAY, which the peer should get to read."""
        self.close_reason = ""
        self.last_received_at = now
        self.buffered_bytes = 0
        """Held for readers and unfinished messages, over all streams (see `hold`)."""
        self.wants_room = False
        """`on_room` is to be called when a stream ends."""

    # -- for the shell

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes of the peer. Faults of the peer end in output, not in exceptions."""
        if self.closing or (self._prelude and not (data := self._skip_prelude(data))):
            return
        self.now = self.last_received_at = now
        self._is_awake = True  # the caller takes the output when this returns
        try:
            self._read_frames(self._rest + data if self._rest else data)
        except Http2ConnectionError as error:
            self.fail(error.code, error.reason)
        finally:
            self._is_awake = bool(self.output)

    def fail(self, code: ErrorCode, reason: str) -> None:
        """Say GOAWAY and close; open streams are cut off."""
        if not self.closing:
            self.has_failed = True
            self.emit(goaway(self.goaway_id(), code, reason))
            self.cut_off(f"{code.name}: {reason}")

    def cut_off(self, reason: str) -> None:
        """The transport is lost, or to be closed without a word."""
        if self.closing:
            return
        self.closing, self.close_reason = True, reason
        streams = [*self.streams.values()]
        self.streams.clear()
        for stream in streams:
            stream.closed = True
            stream.on_reset(None)

    # -- for streams

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End `stream` at both sides at once, without telling its owner."""
        if not stream.closed:
            self._remember_reset(stream.id)
            self.emit(rst_stream(stream.id, code))
            self.drop(stream)

    def drop(self, stream: Stream) -> None:
        """Forget a stream that is over."""
        stream.closed = True
        stream.queue = None
        self.buffered_bytes -= stream.held_bytes
        self.streams.pop(stream.id, None)
        if self.is_draining and not self.streams:
            self.close_if_drained()
        if self.wants_room:
            self.on_room()

    def replenish(self, stream: Stream) -> None:
        """Grant what has been read of the stream, when it is worth a frame."""
        if stream.closed or stream.remote_done:
            return
        size = self.limits.stream_window_bytes
        increment = increment_due(stream.receive_left, stream.unread, size)
        if increment:
            stream.receive_left += increment
            self.emit(window_update(stream.id, increment))

    def hold(self, stream: Stream, change_bytes: int) -> None:
        """Account for bytes kept (or, negative, let go) on behalf of a stream; its end lets go all.

        Raises:
            Http2StreamError: ENHANCE_YOUR_CALM, over `max_buffered_bytes`.
        """
        if stream.closed:
            return
        stream.held_bytes += change_bytes
        self.buffered_bytes += change_bytes
        if change_bytes > 0 and self.buffered_bytes > self.limits.max_buffered_bytes:
            raise Http2StreamError(ErrorCode.ENHANCE_YOUR_CALM, "too much is held unread")

    # -- for roles

    @abstractmethod
    def goaway_id(self) -> int:
        """The highest stream of the peer that we may have acted upon (section 6.8)."""

    def close_if_drained(self) -> None:
        """Draining, and the last stream has ended."""
        self.cut_off("drained")

    def on_room(self) -> None:
        """A stream has ended, while `wants_room` was set."""

    def open_with_settings(self, settings: bytes) -> None:
        """Our first frames: SETTINGS, and a connection window of the size wanted."""
        self.emit(settings)
        increment = self._receive_window - DEFAULT_WINDOW_BYTES
        if increment:
            self.emit(window_update(0, increment))

    def _skip_prelude(self, data: bytes) -> bytes:
        """What follows the prelude in `data`."""
        expected = self._prelude[: len(data)]
        if not data.startswith(expected):
            self.fail(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
            return b""
        self._prelude = self._prelude[len(expected) :]
        return data[len(expected) :]
