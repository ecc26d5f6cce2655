"""Keeps a LeaseTable up to date from the bus, and mends gaps by asking the edges."""

from collections.abc import Callable

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contracts import events_pb2
from pointsman_common.envelope import Arrival, EnvelopeStamp, SequenceReader
from pointsman_common.errors import BusUnavailableError
from pointsman_common.in_flight import LeaseTable, decode_lease
from pointsman_common.structured_log import get_logger

log = get_logger("lease-subscriber")

PickedListener = Callable[[events_pb2.RequestPicked], None]
FinishedListener = Callable[[events_pb2.RequestFinished], None]
ServingListener = Callable[[events_pb2.RequestServing], None]


class LeaseSubscriber:
    """A part of a service. Listeners see each event once it has been applied to the table."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        table: LeaseTable,
        stamp: EnvelopeStamp,
        *,
        pool: str = subjects.ALL,
        on_picked: PickedListener | None = None,
        on_serving: ServingListener | None = None,
        on_finished: FinishedListener | None = None,
    ) -> None:
        self._bus, self._clock, self._table, self._stamp = bus, clock, table, stamp
        self._pool = pool
        self._on_picked, self._on_serving, self._on_finished = on_picked, on_serving, on_finished
        self._readers = {kind: SequenceReader() for kind in ("picked", "serving", "finished")}
        self._pools: set[str] = set() if pool == subjects.ALL else {pool}
        self._query_due = True
        self.gaps = 0
        """Times that a snapshot was needed since the start."""

    async def run(self) -> None:
        self._bus.on_reconnect(self._ask_again)
        ends = [
            self._bus.subscribe(subjects.request_picked(self._pool), self._picked),
            self._bus.subscribe(subjects.request_serving(self._pool), self._serving),
            self._bus.subscribe(subjects.request_finished(self._pool), self._finished),
            self._bus.subscribe(subjects.HEARTBEAT, self._heartbeat),
        ]
        try:
            while True:
                self._table.expire(self._clock.monotonic())
                if self._query_due and self._bus.connected and self._pools:
                    self._query_due = False
                    await self._ask_edges()
                await self._clock.sleep(0.1)
        finally:
            for end in ends:
                end()

    def _ask_again(self) -> None:
        self._query_due = True

    async def _ask_edges(self) -> None:
        for pool in sorted(self._pools):
            subject = subjects.leases_query(pool)
            query = events_pb2.LeaseQuery(envelope=self._stamp.next(subject), pool=pool)
            try:
                answers = await self._bus.query(subject, query.SerializeToString(), timeout_s=0.25)
            except BusUnavailableError as error:
                log.debug("lease-query-failed", error=str(error))
                self._query_due = True
                return
            now = self._clock.monotonic()
            for answer in answers:
                self._take_over(events_pb2.LeaseSnapshot.FromString(answer), now)

    def _take_over(self, snapshot: events_pb2.LeaseSnapshot, now: float) -> None:
        edge = snapshot.envelope.publisher
        # Events that came after the snapshot was written have been applied already and stay so:
        # a finished lease is remembered as gone, an opened one is confirmed by its next event.
        self._table.replace_edge(edge, (decode_lease(item, now) for item in snapshot.leases), now)
        for kind, sequence in snapshot.sequences.items():
            if kind in self._readers:
                self._readers[kind].restart_at(edge, snapshot.envelope.epoch, sequence)

    def _read(self, kind: str, payload: bytes) -> events_pb2.RequestEvents | None:
        message = events_pb2.RequestEvents.FromString(payload)
        self._learn(message.pool)
        arrival = self._readers[kind].judge(message.envelope)
        if arrival is Arrival.OLD:
            return None
        if arrival is Arrival.GAP:
            self.gaps += 1
            self._query_due = True
        return message

    def _learn(self, pool: str) -> None:
        if pool not in self._pools:
            self._pools.add(pool)
            self._query_due = True

    def _picked(self, _: str, payload: bytes) -> None:
        message = self._read("picked", payload)
        if message is None:
            return
        now = self._clock.monotonic()
        for event in message.picked:
            self._table.open(decode_lease(event.lease, now), now)
            if self._on_picked is not None:
                self._on_picked(event)

    def _serving(self, _: str, payload: bytes) -> None:
        message = self._read("serving", payload)
        if message is None:
            return
        for event in message.serving:
            served = event.endpoint_uid or event.endpoint_address
            self._table.serve(event.lease_id, moved_to=served if event.moved else "")
            if self._on_serving is not None:
                self._on_serving(event)

    def _finished(self, _: str, payload: bytes) -> None:
        message = self._read("finished", payload)
        if message is None:
            return
        for event in message.finished:
            if self._on_finished is not None:
                self._on_finished(event)
            self._table.finish(event.lease_id)

    def _heartbeat(self, _: str, payload: bytes) -> None:
        beat = events_pb2.LayerHeartbeat.FromString(payload)
        if beat.description.layer == "ext-proc":
            self._table.heard(beat.envelope.publisher, self._clock.monotonic())
            for pool in beat.pools:
                self._learn(pool)
