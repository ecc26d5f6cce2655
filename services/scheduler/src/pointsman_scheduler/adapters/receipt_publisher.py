"""Publishes receipts, once the pick is answered: at once when idle, gathered under load."""

import asyncio
from collections import deque
from functools import lru_cache

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.envelope import EnvelopeStamp
from pointsman_scheduler.core.candidate_sets import CandidateSets
from pointsman_scheduler.core.decision_receipt import ReceiptDraft
from pointsman_scheduler.core.picking import SEED_BITS, Pick
from pointsman_scheduler.core.receipt_messages import DatedDraft, ReceiptMessages
from pointsman_scheduler.core.scheduler import Refused
from pointsman_scheduler.metrics import Metrics
from pointsman_scheduler.settings import SchedulerSettings

AT_A_TIME = 16
"""Receipts written, into one message, before others get a turn of the loop."""

MANY_CANDIDATES = 256
"""Each receipt of so many goes alone, which keeps a message far below the bus's limit of 1 MB."""


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
        self._off = settings.receipts == "off"
        self._fraction = fractions[settings.receipts]
        self._longest, self._gather_s = settings.receipts_waiting, settings.gather_receipts_s
        self._waiting: deque[DatedDraft] = deque()
        self._wake = asyncio.Event()
        self._sets = CandidateSets()
        self._messages: dict[str, ReceiptMessages] = {}

    def wants(self, pick: Pick) -> bool:
        """Whether the pick is to have a receipt: not for a pool that does not exist. A sample is
        drawn by the decision's seed; refusals and foreseen SLO misses are always in it."""
        if self._off or pick.request is None:
            return False
        return (
            self._fraction == 1.0
            or pick.seed < self._fraction * 2.0**SEED_BITS
            or isinstance(pick.outcome, Refused)
            or _misses_slo(pick)
        )

    def offer(self, draft: ReceiptDraft) -> None:
        """Never waits; the oldest draft is dropped when too many wait."""
        if len(self._waiting) >= self._longest:
            self._waiting.popleft()
            self._metrics.receipts_dropped.inc()
        self._waiting.append(DatedDraft(draft, self._clock.wall()))
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                self._publish_some()
                await self._clock.sleep(0)
            await self._clock.sleep(self._gather_s)

    async def drain(self, grace_s: float) -> None:
        """Publish what waits."""
        del grace_s
        while self._waiting:
            self._publish_some()

    def _publish_some(self) -> None:
        """One message: of the first that waits and those after it of the same pool."""
        first = self._waiting.popleft()
        pool, some = _pool(first), [first]
        while (
            len(some) < AT_A_TIME
            and self._waiting
            and _pool(self._waiting[0]) == pool
            and _size(some[-1]) < MANY_CANDIDATES
        ):
            some.append(self._waiting.popleft())
        messages = self._messages.get(pool)
        if messages is None:
            messages = self._messages[pool] = ReceiptMessages(self._sets)
        subject = _subject(pool)
        message = messages.write(
            some, envelope=self._stamp.next(subject), now=self._clock.monotonic()
        )
        self._bus.publish(subject, message)


def _misses_slo(pick: Pick) -> bool:
    slo_ms = pick.descriptor.ttft_slo_ms
    return bool(slo_ms) and pick.predicted_ttft_s * 1e3 > slo_ms


def _pool(dated: DatedDraft) -> str:
    return dated.draft.pick.descriptor.pool


def _size(dated: DatedDraft) -> int:
    seen = dated.draft.seen
    return 0 if seen is None else len(seen.candidates)


_subject = lru_cache(maxsize=1024)(subjects.decision)
