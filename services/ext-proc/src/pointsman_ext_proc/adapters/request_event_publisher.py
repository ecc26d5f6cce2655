"""Tells the bus what happens to this edge's requests: at once when idle, gathered under load."""

import asyncio
from collections import deque
from typing import TypeVar

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contracts import events_pb2
from pointsman_common.envelope import EnvelopeStamp

E = TypeVar("E")

MAX_WAITING = 50_000
"""Events of one kind; the oldest are dropped beyond, and counted."""

MAX_BATCH = 1_000
"""Events in one message, which keeps it below the bus's limit of 1 MB."""

MAX_PICKED_BYTES = 256 << 10
"""Picks carry block hashes and perhaps descriptors: a message of this size takes no more."""


class RequestEventPublisher:
    """A part of a service. The first event after a pause goes out in the next turn of the loop;
    those of the following `gather_s` seconds go together."""

    def __init__(
        self, bus: Bus, clock: Clock, stamp: EnvelopeStamp, *, pool: str, gather_s: float
    ) -> None:
        self._bus, self._clock, self._stamp = bus, clock, stamp
        self._pool, self._gather_s = pool, gather_s
        self._picked: deque[events_pb2.RequestPicked] = deque(maxlen=MAX_WAITING)
        self._serving: deque[events_pb2.RequestServing] = deque(maxlen=MAX_WAITING)
        self._finished: deque[events_pb2.RequestFinished] = deque(maxlen=MAX_WAITING)
        self._wake = asyncio.Event()
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Events lost since the start, here or in the bus's own buffer."""
        return self._dropped + self._bus.dropped

    def picked(self, event: events_pb2.RequestPicked) -> None:
        self._add(self._picked, event)

    def serving(self, event: events_pb2.RequestServing) -> None:
        self._add(self._serving, event)

    def finished(self, event: events_pb2.RequestFinished) -> None:
        self._add(self._finished, event)

    def sequences(self) -> dict[str, int]:
        """The last sequence sent of each kind."""
        return {
            "picked": self._stamp.last(subjects.request_picked(self._pool)).sequence,
            "serving": self._stamp.last(subjects.request_serving(self._pool)).sequence,
            "finished": self._stamp.last(subjects.request_finished(self._pool)).sequence,
        }

    def flush(self) -> None:
        """Hand everything to the bus now: picks before what follows from them."""
        while self._picked:
            self._send(subjects.request_picked(self._pool), picked=_sized_batch(self._picked))
        while self._serving:
            self._send(subjects.request_serving(self._pool), serving=_batch(self._serving))
        while self._finished:
            self._send(subjects.request_finished(self._pool), finished=_batch(self._finished))

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.flush()
            await self._clock.sleep(self._gather_s)

    def _add(self, waiting: deque[E], event: E) -> None:
        if len(waiting) == MAX_WAITING:
            self._dropped += 1
        waiting.append(event)
        self._wake.set()

    def _send(
        self,
        subject: str,
        *,
        picked: list[events_pb2.RequestPicked] | None = None,
        serving: list[events_pb2.RequestServing] | None = None,
        finished: list[events_pb2.RequestFinished] | None = None,
    ) -> None:
        message = events_pb2.RequestEvents(
            envelope=self._stamp.next(subject),
            pool=self._pool,
            picked=picked,
            serving=serving,
            finished=finished,
            dropped=self.dropped,
        )
        self._bus.publish(subject, message.SerializeToString())


def _batch(waiting: deque[E]) -> list[E]:
    return [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH))]


def _sized_batch(waiting: deque[events_pb2.RequestPicked]) -> list[events_pb2.RequestPicked]:
    batch: list[events_pb2.RequestPicked] = []
    size = 0
    while waiting and len(batch) < MAX_BATCH and size < MAX_PICKED_BYTES:
        batch.append(waiting.popleft())
        size += batch[-1].ByteSize()
    return batch
