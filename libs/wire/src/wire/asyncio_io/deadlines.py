"""The deadlines of one connection's calls behind one timer.

A timer of the loop per call costs more than the rest of its bookkeeping. Here a call costs one push
on a heap; the timer is set for the earliest deadline, and finished calls are swept out when they
outnumber the open ones.
"""

import asyncio
from heapq import heapify, heappop, heappush
from typing import Protocol

_SWEEP_FROM = 128


class Expiring(Protocol):
    id: int
    """Its own within the connection: streams do not compare."""
    closed: bool

    def expire(self) -> None:
        """The deadline has passed and the call is still open."""


class Deadlines:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Expiring]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._sweep_at = _SWEEP_FROM

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: float, stream: Expiring) -> None:
        """Expire `stream` at `at` (seconds of the loop's clock) unless it is closed by then."""
        heappush(self._heap, (at, stream.id, stream))
        if at < self._timer_at:
            self._set_timer(at)
        if len(self._heap) >= self._sweep_at:
            self._sweep()

    def close(self) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._on_timer), at

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        heap = self._heap
        # A timer may fire a clock tick early.
        now = self._loop.time() + 0.001
        while heap and (heap[0][2].closed or heap[0][0] <= now):
            stream = heappop(heap)[2]
            if not stream.closed:
                stream.expire()
        if heap:
            self._set_timer(heap[0][0])

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if not entry[2].closed]
        heapify(self._heap)
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self._heap))
