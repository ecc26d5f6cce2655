"""Finds the ends of own leases that another edge told while this one did not hear it.

Where the gateway's access log tells the ends, it may reach another edge, which tells of it in one
bus message; and the bus may lose that. So the peers are asked: a few times after a gap in what one
of them told and after the bus was away; and once in a while about leases that are open for long,
because a lost message that is its edge's last leaves no gap.
"""

from collections.abc import Callable, Sequence

from google.protobuf.message import DecodeError

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contracts import events_pb2
from pointsman_common.contracts.layer_pb2 import Envelope
from pointsman_common.envelope import Arrival, EnvelopeStamp, SequenceReader
from pointsman_common.errors import BusUnavailableError
from pointsman_common.structured_log import get_logger

log = get_logger("missed-ends")

ASK_EVERY_S = 5.0
"""At most; it gives the peers of a bus that is back the time to be back as well."""
TRIES = 3
"""A peer may be away just when it is asked."""
LONG_OPEN_S = 60.0
"""Leases open for longer are asked about each time that this passes."""
MOST_ASKED = 10_000
"""Leases in one query, oldest first, which keeps it below the bus's limit of 1 MB."""

_ANSWER_S = 0.25


class MissedEnds:
    """`opened_before` lists the leases opened before a moment, oldest first and at most
    `MOST_ASKED`; `close` gets the ends that were found."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        stamp: EnvelopeStamp,
        *,
        pool: str,
        opened_before: Callable[[float], Sequence[str]],
        close: Callable[[events_pb2.RequestFinished], None],
    ) -> None:
        self._bus, self._clock, self._stamp, self._pool = bus, clock, stamp, pool
        self._opened_before, self._close = opened_before, close
        self._sequences = SequenceReader()
        self._tries = 0

    def follow(self, envelope: Envelope) -> None:
        """Another edge has told ends."""
        if self._sequences.judge(envelope) is Arrival.GAP:
            self._doubt()

    async def run(self) -> None:
        self._bus.on_reconnect(self._doubt)
        asked_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(ASK_EVERY_S)
            now = self._clock.monotonic()
            if self._tries:
                self._tries -= 1
                await self._ask(self._opened_before(now))
            elif now - asked_at >= LONG_OPEN_S:
                asked_at = now
                await self._ask(self._opened_before(now - LONG_OPEN_S))

    def _doubt(self) -> None:
        self._tries = TRIES

    async def _ask(self, leases: Sequence[str]) -> None:
        if not leases:
            return
        subject = subjects.leases_query(self._pool)
        query = events_pb2.LeaseQuery(
            envelope=self._stamp.next(subject), pool=self._pool, check=leases
        )
        try:
            answers = await self._bus.query(subject, query.SerializeToString(), timeout_s=_ANSWER_S)
        except BusUnavailableError as error:
            log.debug("ends-query-failed", error=str(error))
            return
        for answer in answers:
            try:
                ended = events_pb2.LeaseSnapshot.FromString(answer).ended
            except DecodeError as error:
                log.warning("ends-answer-unreadable", error=str(error))
                continue
            for event in ended:
                self._close(event)
