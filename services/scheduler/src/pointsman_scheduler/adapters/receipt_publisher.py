"""Writes receipts and publishes them, once the pick is answered."""

import asyncio
from collections import deque
from functools import lru_cache

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.envelope import EnvelopeStamp
from pointsman_scheduler.core.decision_receipt import ReceiptDraft, build_receipt
from pointsman_scheduler.core.picking import SEED_BITS, Pick
from pointsman_scheduler.metrics import Metrics
from pointsman_scheduler.settings import SchedulerSettings

_AT_A_TIME = 4
"""Receipts written before others get a turn of the loop."""


class ReceiptPublisher:
    """A part of the service."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        stamp: EnvelopeStamp,
        metrics: Metrics,
        settings: SchedulerSettings,
    ) -> None:
        self._bus, self._clock, self._stamp, self._metrics = bus, clock, stamp, metrics
        fractions = {"all": 1.0, "sampled": settings.receipts_fraction, "off": 0.0}
        self._fraction = fractions[settings.receipts]
        self._longest = settings.receipts_waiting
        self._waiting: deque[tuple[ReceiptDraft, float]] = deque()
        self._wake = asyncio.Event()

    def wants(self, pick: Pick) -> bool:
        """Whether the pick is to have a receipt: not for a pool that does not exist. A sample is
        drawn by the decision's seed."""
        if pick.request is None:
            return False
        if self._fraction in (0.0, 1.0):
            return bool(self._fraction)
        return pick.seed < self._fraction * 2.0**SEED_BITS

    def offer(self, draft: ReceiptDraft) -> None:
        """Never waits; the oldest draft is dropped when too many wait."""
        if len(self._waiting) >= self._longest:
            self._waiting.popleft()
            self._metrics.receipts_dropped.inc()
        self._waiting.append((draft, self._clock.wall()))
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                self._publish_some()
                await self._clock.sleep(0)

    async def drain(self, grace_s: float) -> None:
        """Publish what waits."""
        del grace_s
        while self._waiting:
            self._publish_some()

    def _publish_some(self) -> None:
        for _ in range(min(_AT_A_TIME, len(self._waiting))):
            draft, decided_at = self._waiting.popleft()
            subject = _subject(draft.pick.descriptor.pool)
            receipt = build_receipt(
                draft, envelope=self._stamp.next(subject), decided_at=decided_at
            )
            self._bus.publish(subject, receipt.SerializeToString())


_subject = lru_cache(maxsize=1024)(subjects.decision)
