"""The sending half of a connection: header blocks, and DATA under flow control.

DATA that does not fit both windows, or a socket that is full, waits in the queue of its stream.
The streams that could send stand in one line and send one frame a turn, so that no large message
starves the others. Only DATA waits: were control frames or reading held back as well, two full
peers would wait for each other for ever. On the hot path: `benchmarks/bench_hop.py`.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from wire.http2.errors import ErrorCode, Http2ConnectionError, Http2StreamError
from wire.http2.flow_control import grown_window
from wire.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MIN_MAX_FRAME_BYTES,
    SETTINGS,
    frame,
    headers_frames,
    pack_header,
)
from wire.http2.header_encoding import EMPTY_TABLE
from wire.http2.settings import (
    DEFAULT_HEADER_TABLE_BYTES,
    DEFAULT_WINDOW_BYTES,
    MAX_WINDOW_BYTES,
    PeerSettings,
)
from wire.http2.stream import Stream

END: bytes = b""
"""An ending of DATA without trailers: END_STREAM on the last frame."""

_PUMPED_BYTES = 256 << 10
"""DATA taken from queues at a time, so that a full socket is noticed."""

_LAST_BLOCK = END_HEADERS | END_STREAM
_SETTINGS_ACK = frame(SETTINGS, ACK, 0)


class Sender(ABC):
    """`wake` is called when output begins to wait outside of `receive`: write it soon."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.output: list[bytes] = []
        self.peer = PeerSettings()
        self.streams: dict[int, Stream] = {}
        self.send_window = DEFAULT_WINDOW_BYTES
        self.data_frames_sent = 0
        self.is_paused = False
        self._wake, self._is_awake = wake, False
        self._line: deque[Stream] = deque()
        self._block_prefix = b""

    def take_output(self) -> bytes:
        """What must be written now; the caller owns it."""
        data = b"".join(self.output)
        self.output.clear()
        self._is_awake = False
        return data

    def emit(self, data: bytes) -> None:
        self.output.append(data)
        if not self._is_awake:
            self._is_awake = True
            self._wake()

    def send_headers(self, stream: Stream, block: bytes, *, end_stream: bool = False) -> None:
        """Send a block; with `end_stream` the stream is done on our side."""
        stream.answered = True
        self.emit(self._headers(stream.id, block, end_stream))
        if end_stream:
            self._end_locally(stream)

    def send_data(self, stream: Stream, data: bytes, ending: bytes | None = None) -> None:
        """Send DATA at once or queue it. `ending` closes our side: `END`, or a trailers block."""
        size = len(data)
        if stream.queue or not self._fits(stream, size):
            if stream.queue is None:
                stream.queue = bytearray()
            stream.queue += data
            stream.ending = ending
            self._stand_in_line(stream)
            self._pump()
            return
        stream.send_window -= size
        self.send_window -= size
        self.data_frames_sent += 1
        flags = END_STREAM if ending == END else 0
        self.emit(pack_header(size << 8 | DATA, flags, stream.id) + data)
        if ending is not None:
            self._finish(stream, ending)

    def send_request(self, stream: Stream, head: bytes, data: bytes) -> None:
        """Head and DATA of a whole request, in one piece where they fit."""
        size = len(data)
        if not self._fits(stream, size) or self._block_prefix or len(head) > MIN_MAX_FRAME_BYTES:
            self.send_headers(stream, head)
            self.send_data(stream, data, END)
            return
        stream.answered = True
        stream.send_window -= size
        self.send_window -= size
        self.data_frames_sent += 1
        head_frame = pack_header(len(head) << 8 | HEADERS, END_HEADERS, stream.id)
        data_frame = pack_header(size << 8 | DATA, END_STREAM, stream.id)
        self.emit(b"".join((head_frame, head, data_frame, data)))
        self._end_locally(stream)

    def send_response(self, stream: Stream, head: bytes, data: bytes, trailers: bytes) -> None:
        """Head, DATA and trailers of a whole response, in one piece where they fit."""
        size = len(data)
        if not self._fits(stream, size) or self._block_prefix:
            self.send_headers(stream, head)
            self.send_data(stream, data, trailers)
            return
        stream.answered = True
        stream.send_window -= size
        self.send_window -= size
        self.data_frames_sent += 1
        head_frame = pack_header(len(head) << 8 | HEADERS, END_HEADERS, stream.id)
        data_frame = pack_header(size << 8 | DATA, 0, stream.id)
        end_frame = pack_header(len(trailers) << 8 | HEADERS, _LAST_BLOCK, stream.id)
        self.emit(b"".join((head_frame, head, data_frame, data, end_frame, trailers)))
        self._end_locally(stream)

    def end(self, stream: Stream, ending: bytes) -> None:
        """Close our side behind what is queued: with `END`, or a block of trailers."""
        if stream.queue:
            stream.ending = ending
        elif ending == END:
            self.emit(pack_header(DATA, END_STREAM, stream.id))
            self._end_locally(stream)
        else:
            self.send_headers(stream, ending, end_stream=True)

    def pause(self) -> None:
        """The socket is full: DATA waits in the queues."""
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        self._pump()

    @abstractmethod
    def ended_locally(self, stream: Stream) -> None:
        """Our side of `stream` is done: the role decides what becomes of it."""

    def _end_locally(self, stream: Stream) -> None:
        stream.local_done = True
        self.ended_locally(stream)

    def _fits(self, stream: Stream, size: int) -> bool:
        return not size or (
            size <= stream.send_window
            and size <= self.send_window
            and size <= self.peer.max_frame_bytes
            and not self.is_paused
        )

    def _headers(self, stream_id: int, block: bytes, end_stream: bool) -> bytes:
        if self._block_prefix:
            block = self._block_prefix + block
            self._block_prefix = b""
        max_bytes = self.peer.max_frame_bytes
        return headers_frames(stream_id, block, end_stream=end_stream, max_bytes=max_bytes)

    def _finish(self, stream: Stream, ending: bytes) -> None:
        if ending == END:
            self._end_locally(stream)
        else:
            self.send_headers(stream, ending, end_stream=True)

    # -- the line of streams with queues

    def _stand_in_line(self, stream: Stream) -> None:
        if stream.queue and stream.send_window > 0 and not stream.in_line:
            stream.in_line = True
            self._line.append(stream)

    @property
    def has_more(self) -> bool:
        """More DATA could be sent than was: `resume` when what there is has been written."""
        return bool(self._line) and self.send_window > 0 and not self.is_paused

    @property
    def is_starved(self) -> bool:
        """DATA waits for the window of the connection."""
        return self.send_window <= 0 and any(
            stream.queue and not stream.closed for stream in self._line
        )

    def _pump(self) -> None:
        window_before = self.send_window
        while self.has_more and window_before - self.send_window < _PUMPED_BYTES:
            stream = self._line.popleft()
            stream.in_line = False
            if not stream.closed and stream.queue:
                self._send_from_queue(stream, stream.queue)

    def _send_from_queue(self, stream: Stream, queue: bytearray) -> None:
        limit = min(stream.send_window, self.send_window, self.peer.max_frame_bytes)
        if limit <= 0:
            return  # its window shrank since it stood in line
        data = bytes(queue[:limit])
        del queue[:limit]
        stream.send_window -= len(data)
        self.send_window -= len(data)
        self.data_frames_sent += 1
        is_last = not queue and stream.ending == END
        flags = END_STREAM if is_last else 0
        self.emit(pack_header(len(data) << 8 | DATA, flags, stream.id) + data)
        if queue:
            self._stand_in_line(stream)
            return
        if stream.ending is not None:
            self._finish(stream, stream.ending)
        stream.on_sent()

    # -- what the peer says about our sending

    def _window_grows(self, increment: int) -> None:
        try:
            self.send_window = grown_window(self.send_window, increment)
        except Http2StreamError as error:
            raise Http2ConnectionError(error.code, error.reason) from error
        self._pump()

    def _stream_window_grows(self, stream: Stream, increment: int) -> None:
        stream.send_window = grown_window(stream.send_window, increment)
        stream.stalled_since = None
        self._stand_in_line(stream)
        self._pump()

    def _apply_settings(self, payload: bytes) -> None:
        """Take the values and acknowledge them, then send what they allow: until it has read the
        ACK, the peer may hold us to its old ones (section 6.5.3)."""
        before = self.peer.initial_window_bytes
        self.peer.apply(payload)
        if self.peer.header_table_bytes < DEFAULT_HEADER_TABLE_BYTES:
            self._block_prefix = EMPTY_TABLE  # RFC 7541 section 4.2
        if change := self.peer.initial_window_bytes - before:
            self._move_windows(change)
        self.emit(_SETTINGS_ACK)
        self._pump()

    def _move_windows(self, change: int) -> None:
        for stream in self.streams.values():
            stream.send_window += change
            if stream.send_window > MAX_WINDOW_BYTES:
                raise Http2ConnectionError(
                    ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE overflows a window"
                )
            self._stand_in_line(stream)
