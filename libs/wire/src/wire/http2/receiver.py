"""The receiving half of a connection: frames in, calls on streams out.

What a frame means on which stream is the table in `stream.py`. Errors of the peer leave here as
Http2ConnectionError, when they end the connection, and are answered by RST_STREAM when they end one
stream. On the hot path: `benchmarks/bench_hop.py`.
"""

from abc import abstractmethod
from collections.abc import Callable

from wire.http2.errors import (
    ErrorCode,
    Http2ConnectionError,
    Http2StreamError,
    protocol_error,
    too_much,
)
from wire.http2.faults import Faults
from wire.http2.frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADER_BYTES,
    HEADERS,
    MAX_STREAM_ID,
    PADDED,
    PING,
    PRIORITY_FLAG,
    RST_STREAM,
    SETTINGS,
    TYPE_NAMES,
    WINDOW_UPDATE,
    frame,
    read_uint32,
    strip_padding,
    unpack_header,
    window_update,
)
from wire.http2.frames import DATA as DATA_TYPE
from wire.http2.hpack_cache import HeaderBlock, HeaderBlockReader
from wire.http2.limits import Limits
from wire.http2.settings import DEFAULT_WINDOW_BYTES
from wire.http2.stream import Stream, StreamState

_PADDED_OR_PRIORITY = PADDED | PRIORITY_FLAG


class Receiver(Faults):
    """Base of `Connection`, which gives it a life."""

    def __init__(self, limits: Limits, *, now: float, wake: Callable[[], None]) -> None:
        super().__init__(limits, now=now, wake=wake)
        self.closing = False
        """Over: write what is left of the output and close the transport."""
        self.has_settings = False
        """The peer has sent its SETTINGS."""
        self.block_started_at: float | None = None
        """When the header block began whose end has not come."""
        self._rest = b""
        self._expected: int | None = SETTINGS
        # The window of a connection cannot begin smaller than the default (section 6.9.2).
        self._receive_window = max(limits.connection_window_bytes, DEFAULT_WINDOW_BYTES)
        self._receive_left = self._receive_window
        self._headers_reader = HeaderBlockReader(max_list_bytes=limits.max_header_list_bytes)
        self._block = bytearray()
        self._block_of, self._block_ends, self._continuations = 0, False, 0
        self._receivers: tuple[Callable[[int, int, bytes], None], ...] = (
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_rst_stream,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_goaway,
            self._on_window_update,
            self._on_continuation,
            *(self._on_ignored,) * (256 - len(TYPE_NAMES)),
        )

    # -- hooks of the connection and of its role

    @abstractmethod
    def on_new_stream(self, stream_id: int, block: HeaderBlock, *, is_last: bool) -> None:
        """HEADERS on a stream that is not open."""

    def on_settings(self) -> None:
        """The peer announced settings."""

    def on_pong(self, payload: bytes) -> None:
        """The peer answered a PING."""

    @abstractmethod
    def on_goaway(self, last_stream_id: int, code: int, reason: str) -> None:
        """The peer takes no further streams."""

    @abstractmethod
    def replenish(self, stream: Stream) -> None:
        """Grant what has been read of the stream."""

    # -- frames

    def _read_frames(self, buffer: bytes) -> None:
        position, end = 0, len(buffer)
        receivers, max_frame_bytes = self._receivers, self.limits.max_frame_bytes
        while end - position >= HEADER_BYTES and not self.closing:
            length_and_type, flags, stream_id = unpack_header(buffer, position)
            length, kind = length_and_type >> 8, length_and_type & 0xFF
            if length > max_frame_bytes:
                raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, f"frame of {length} bytes")
            if self._expected is not None and kind != self._expected:
                raise protocol_error(f"{TYPE_NAMES[self._expected]} must come first")
            start = position + HEADER_BYTES
            stop = start + length
            if stop > end:
                break
            position = stop
            receivers[kind](flags, stream_id & MAX_STREAM_ID, buffer[start:stop])
        self._rest = buffer[position:]

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._grant(size)
        stream = self.streams.get(stream_id)
        if stream is None or stream.remote_done:
            self._on_stray_data(flags, stream_id, size)
            return
        stream.receive_left -= size
        if stream.receive_left < 0:
            self._fault(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if flags & PADDED:
            payload = strip_padding(payload, flags)
        if stream.content_left is not None:
            stream.content_left -= len(payload)
            if stream.content_left < 0:
                self._fault(stream, ErrorCode.PROTOCOL_ERROR)
                return
        if payload:
            self._control.earned += 1
            try:
                stream.on_data(payload)
            except Http2StreamError as error:
                self._fault(stream, error.code)
        elif not flags & END_STREAM:
            self.count_control()
        if stream.closed:
            return
        if flags & END_STREAM:
            self._end_remotely(stream)
        elif stream.receive_left * 2 < self.limits.stream_window_bytes:
            self.replenish(stream)

    def _on_stray_data(self, flags: int, stream_id: int, size: int) -> None:
        """DATA of a stream that is over at one end. What was under way when we ended it is no
        fault of the peer: it may be much, and its END_STREAM comes once."""
        if self.state_of(stream_id) is not StreamState.RESET_BY_US:
            self._judge(DATA_TYPE, stream_id)
        elif flags & END_STREAM:
            self._forget_reset(stream_id)
        elif not size:
            self.count_control()

    def _grant(self, size: int) -> None:
        """The window of the connection counts all DATA, whatever becomes of it (section 6.9)."""
        self._receive_left -= size
        if self._receive_left < 0:
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded")
        if self._receive_left * 2 < self._receive_window:
            self.emit(window_update(0, self._receive_window - self._receive_left))
            self._receive_left = self._receive_window

    def _end_remotely(self, stream: Stream) -> None:
        if stream.content_left:
            self._fault(stream, ErrorCode.PROTOCOL_ERROR)
            return
        stream.remote_done = True
        stream.on_end()
        if stream.local_done and not stream.closed:
            self.drop(stream)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise protocol_error("HEADERS on stream 0")
        if flags & _PADDED_OR_PRIORITY:
            payload = _without_priority(strip_padding(payload, flags), flags)
        if flags & END_HEADERS:
            self._on_block(stream_id, payload, bool(flags & END_STREAM))
            return
        self._expected, self._block_of = CONTINUATION, stream_id
        self._block_ends, self._continuations = bool(flags & END_STREAM), 0
        self._block = bytearray(payload)
        self.block_started_at = self.now

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._expected != CONTINUATION or stream_id != self._block_of:
            raise protocol_error("CONTINUATION of no header block")
        self._block += payload
        self._continuations += 1
        is_long = len(self._block) > self.limits.max_header_block_bytes
        if is_long or self._continuations > self.limits.max_continuations:
            raise too_much("header block")
        if flags & END_HEADERS:
            self._expected = self.block_started_at = None
            self._on_block(stream_id, bytes(self._block), self._block_ends)

    def _on_block(self, stream_id: int, payload: bytes, is_last: bool) -> None:
        if len(payload) > self.limits.max_header_block_bytes:
            raise too_much("header block")
        # Read in any case, or the peer's compression state and ours part.
        block = self._headers_reader.read(payload)
        stream = self.streams.get(stream_id)
        if stream is None:
            self.on_new_stream(stream_id, block, is_last=is_last)
            return
        if stream.remote_done:
            self._judge(HEADERS, stream_id)
            return
        if block.content_length is not None and not is_last:
            stream.content_left = block.content_length
        try:
            stream.on_headers(block, is_last=is_last)
        except Http2StreamError as error:
            self._fault(stream, error.code)
        if is_last and not stream.closed:
            self._end_remotely(stream)

    def _on_rst_stream(self, _: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of a broken length")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._judge(RST_STREAM, stream_id)
            return
        if not stream.answered:
            self.count_reset()
        self.drop(stream)
        stream.on_reset(_error_code(read_uint32(payload)))

    def _on_window_update(self, _: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is 4 bytes")
        self.count_window_update()
        increment = read_uint32(payload) & MAX_STREAM_ID
        if not stream_id:
            self._window_grows(increment)
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._judge(WINDOW_UPDATE, stream_id)
            return
        try:
            self._stream_window_grows(stream, increment)
        except Http2StreamError as error:
            self._fault(stream, error.code)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise protocol_error("SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS ACK with payload")
            if not self.has_settings:
                raise protocol_error("SETTINGS must come first")
            return
        self.count_control()
        self._apply_settings(payload)
        if not self.has_settings:
            self.has_settings, self._expected = True, None
        self.on_settings()

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PING is 8 bytes")
        if stream_id:
            raise protocol_error("PING on a stream")
        if flags & ACK:
            self.on_pong(payload)
            return
        self.count_control()
        self.emit(frame(PING, ACK, 0, payload))

    def _on_goaway(self, _: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise protocol_error("GOAWAY on a stream")
        if len(payload) < 8:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY too short")
        reason = payload[8:136].decode("utf-8", "replace")
        self.count_control()
        self.on_goaway(read_uint32(payload) & MAX_STREAM_ID, read_uint32(payload, 4), reason)

    def _on_push_promise(self, _: int, __: int, ___: bytes) -> None:
        raise protocol_error("PUSH_PROMISE, which nobody enabled")

    def _on_priority(self, _: int, stream_id: int, payload: bytes) -> None:
        """Priorities are deprecated and ignored (section 5.3.2); their form is not (6.3)."""
        self.count_control()
        if not stream_id:
            raise protocol_error("PRIORITY on stream 0")
        if len(payload) != 5:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is 5 bytes")

    def _on_ignored(self, _: int, __: int, ___: bytes) -> None:
        """Frames of unknown types (section 5.5)."""
        self.count_control()


def _without_priority(payload: bytes, flags: int) -> bytes:
    """Priorities are read over (section 5.3.2)."""
    if not flags & PRIORITY_FLAG:
        return payload
    if len(payload) < 5:
        raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short")
    return payload[5:]


def _error_code(number: int) -> ErrorCode:
    """Unknown codes are INTERNAL_ERROR (section 7)."""
    return ErrorCode(number) if number <= ErrorCode.HTTP_1_1_REQUIRED else ErrorCode.INTERNAL_ERROR
