"""The client's role: we open streams, as many as the server takes at once."""

from collections.abc import Callable

from wire.http2.connection import Connection
from wire.http2.errors import ErrorCode, protocol_error
from wire.http2.frames import MAX_STREAM_ID, PREFACE
from wire.http2.hpack_cache import HeaderBlock
from wire.http2.limits import Limits
from wire.http2.settings import client_settings
from wire.http2.stream import Stream


class ClientConnection(Connection):
    """`on_change` is called when the connection becomes usable or stops being so, and, as long as
    `wants_room` is set, when a stream has ended."""

    def __init__(
        self,
        limits: Limits,
        *,
        now: float,
        wake: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        super().__init__(limits, now=now, wake=wake)
        self._next_id = 1
        self._on_change = on_change
        self.emit(PREFACE)
        self.open_with_settings(client_settings(limits))

    @property
    def is_usable(self) -> bool:
        """Streams may be opened, now or when others have ended."""
        is_ending = self.closing or self.is_draining
        return self.has_settings and not is_ending and self._next_id <= MAX_STREAM_ID

    @property
    def has_room(self) -> bool:
        """`is_usable`, and a stream may be opened now."""
        return (
            len(self.streams) < self.peer.max_concurrent_streams
            and self.has_settings
            and not self.closing
            and not self.is_draining
            and self._next_id <= MAX_STREAM_ID
        )

    @property
    def has_carried(self) -> bool:
        """A stream has been opened, now or before."""
        return self._next_id > 1

    def next_stream_id(self) -> int:
        """Take the number of a stream; `add` it and send its HEADERS before taking another."""
        stream_id = self._next_id
        self._next_id += 2
        self.last_stream_id = stream_id
        return stream_id

    def add(self, stream: Stream) -> None:
        self.streams[stream.id] = stream

    def drain(self) -> None:
        """Open no further streams; `closing` follows when the open ones are over."""
        self.is_draining = True
        self._on_change()
        if not self.streams:
            self.close_if_drained()

    def on_room(self) -> None:
        self._on_change()

    def cut_off(self, reason: str) -> None:
        super().cut_off(reason)
        self._on_change()

    def goaway_id(self) -> int:
        return 0  # a server opens no streams: push is off

    def on_settings(self) -> None:
        if self.peer.wants_push:
            raise protocol_error("ENABLE_PUSH of a server")
        self._on_change()

    def on_goaway(self, last_stream_id: int, code: int, reason: str) -> None:
        self.close_reason = f"GOAWAY {code} {reason}"
        unprocessed = [stream for stream in self.streams.values() if stream.id > last_stream_id]
        for stream in unprocessed:
            self.drop(stream)
            stream.on_reset(ErrorCode.REFUSED_STREAM)
        self.drain()

    def on_new_stream(self, stream_id: int, block: HeaderBlock, *, is_last: bool) -> None:
        if not stream_id & 1 or stream_id > self.last_stream_id:
            raise protocol_error("HEADERS on an idle stream")
        # Else it is the tail of a call that we gave up; when many expire, it comes often.

    def ended_locally(self, stream: Stream) -> None:
        if stream.remote_done:
            self.drop(stream)
