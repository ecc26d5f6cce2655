"""Corrects the prefix index by what the engines tell of their caches."""

import asyncio

from google.protobuf.message import DecodeError

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.contracts.events_pb2 import KvEvents
from pointsman_common.envelope import Arrival, SequenceReader
from pointsman_common.structured_log import get_logger
from pointsman_scheduler.core.picking import Picking
from pointsman_scheduler.metrics import Metrics

log = get_logger("kv-events")

_MOST_READERS = 16_384


class KvEventSubscriber:
    """A part of the service.

    What is lost on the way is not asked for: a block that the engine dropped unheard is forgotten
    here when it was not used for long, as it is where no engine tells anything.
    """

    def __init__(self, bus: Bus, picking: Picking, metrics: Metrics) -> None:
        self._bus, self._picking, self._metrics = bus, picking, metrics
        self._readers: dict[str, SequenceReader] = {}

    async def run(self) -> None:
        end = self._bus.subscribe(subjects.kv_events(subjects.ALL, subjects.ALL), self._on_events)
        try:
            await asyncio.Event().wait()
        finally:
            end()

    def _on_events(self, subject: str, payload: bytes) -> None:
        try:
            event = KvEvents.FromString(payload)
        except DecodeError as error:
            log.warning("kv-events-unreadable", subject=subject, error=str(error))
            return
        if subject not in self._readers and len(self._readers) >= _MOST_READERS:
            self._readers.clear()
        arrival = self._readers.setdefault(subject, SequenceReader()).judge(event.envelope)
        if arrival is Arrival.OLD:
            return
        if arrival is Arrival.GAP:
            self._metrics.kv_gaps.inc()
        self._metrics.kv_blocks.inc(self._picking.learn_kv(event))
