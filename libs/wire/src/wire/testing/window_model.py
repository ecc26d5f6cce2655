"""The windows of both ends, counted from the frames alone (RFC 9113 sections 5.2 and 6.9)."""

from collections import deque
from collections.abc import Iterable

from wire.http2.frames import ACK, DATA, SETTINGS, WINDOW_UPDATE, read_uint32
from wire.http2.limits import Limits
from wire.http2.settings import DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES
from wire.testing.invariants import require
from wire.testing.scripted_peer import Frame


class WindowModel:
    """What a peer that reads and writes as the RFC says believes; key 0 is the connection."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.peer_may_send = {0: max(limits.connection_window_bytes, DEFAULT_WINDOW_BYTES)}
        self.we_may_send = {0: DEFAULT_WINDOW_BYTES}
        self._initial = DEFAULT_WINDOW_BYTES
        self._announced: deque[int] = deque()

    def open(self, stream_id: int) -> None:
        self.peer_may_send[stream_id] = self._limits.stream_window_bytes
        self.we_may_send[stream_id] = self._initial

    def peer_sent(self, stream_id: int, size: int) -> None:
        """DATA, padding included."""
        self.peer_may_send[stream_id] -= size
        self.peer_may_send[0] -= size

    def peer_granted(self, stream_id: int, increment: int) -> None:
        self.we_may_send[stream_id] += increment

    def room_for_grant(self, stream_id: int) -> int:
        """How much may be granted without passing 2^31 - 1."""
        return MAX_WINDOW_BYTES - self.we_may_send[stream_id]

    def peer_announced(self, initial_window: int) -> None:
        """It counts from our ACK on."""
        self._announced.append(initial_window)

    def take(self, frames: Iterable[Frame]) -> None:
        """Count what we said.

        Raises:
            InvariantError: we sent more than we may, or granted more than we announced.
        """
        for frame in frames:
            size = len(frame.payload)
            if frame.kind == DATA and size:
                for key in (frame.stream_id, 0):
                    require(size <= self.we_may_send[key], f"{size} bytes over a window")
                    self.we_may_send[key] -= size
            elif frame.kind == WINDOW_UPDATE:
                self.peer_may_send[frame.stream_id] += read_uint32(frame.payload)
                largest = self._limits.stream_window_bytes
                if not frame.stream_id:
                    largest = max(self._limits.connection_window_bytes, DEFAULT_WINDOW_BYTES)
                require(self.peer_may_send[frame.stream_id] <= largest, "granted too much")
            elif frame.kind == SETTINGS and frame.flags & ACK and self._announced:
                self._move(self._announced.popleft())

    def _move(self, initial_window: int) -> None:
        change, self._initial = initial_window - self._initial, initial_window
        for key in self.we_may_send:
            if key:
                self.we_may_send[key] += change
