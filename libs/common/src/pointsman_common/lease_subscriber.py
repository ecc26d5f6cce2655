"""Keeps a LeaseTable up to date from the bus, and mends gaps by asking the edges.

Asked are: all edges of a pool when the pool is first heard of and when the bus is back; one edge
when it is first heard of, when some of its messages are missing, when it has started again under
its old name, and when it is quiet and counts other leases than the table (its last message is
missing). An edge that does not answer is asked again each second, a few times.
"""

import asyncio
from collections.abc import Callable

from google.protobuf.message import DecodeError

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

_KINDS = ("picked", "serving", "finished")
_ANSWER_S = 0.25
_ASK_AGAIN_S = 1.0
_MOST_TRIES = 5
_MOST_EDGES = 4096


class LeaseSubscriber:
    """A part of a service.

    `on_picked` and `on_serving` see each event once it has been applied to the table;
    `before_picked` and `on_finished` see it just before: the table does not hold the lease yet, or
    still holds it.

    With `asks=False` nothing is asked of the edges: where messages are missing, what was known of
    their edge's leases is dropped, and the table is right again once those that it missed are over.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        table: LeaseTable,
        stamp: EnvelopeStamp,
        *,
        pool: str = subjects.ALL,
        asks: bool = True,
        before_picked: PickedListener | None = None,
        on_picked: PickedListener | None = None,
        on_serving: ServingListener | None = None,
        on_finished: FinishedListener | None = None,
    ) -> None:
        self._bus, self._clock, self._table, self._stamp = bus, clock, table, stamp
        self._pool, self._asks, self._before_picked = pool, asks, before_picked
        self._on_picked, self._on_serving, self._on_finished = on_picked, on_serving, on_finished
        self._readers: dict[tuple[str, str], SequenceReader] = {}
        self._pools: set[str] = set() if pool == subjects.ALL else {pool}
        self._due = set(self._pools)
        self._wanted: dict[tuple[str, str], int] = {}
        """Tries left, by pool and edge whose leases may differ from the table's."""
        self._asked_at: dict[str, float] = {}
        self._spoke: set[str] = set()
        """Edges that told of a lease since their last heartbeat."""
        self.gaps = 0
        """Times that messages were missing since the start."""

    async def run(self) -> None:
        self._bus.on_reconnect(self._ask_all_again)
        ends = [
            self._bus.subscribe(subjects.request_picked(self._pool), self._picked),
            self._bus.subscribe(subjects.request_serving(self._pool), self._serving),
            self._bus.subscribe(subjects.request_finished(self._pool), self._finished),
            self._bus.subscribe(subjects.HEARTBEAT, self._heartbeat),
        ]
        try:
            while True:
                self._table.expire(self._clock.monotonic())
                if self._asks and self._bus.connected and (pools := self._to_ask()):
                    await asyncio.gather(*(self._ask_edges(pool) for pool in pools))
                await self._clock.sleep(0.1)
        finally:
            for end in ends:
                end()

    def _ask_all_again(self) -> None:
        self._due |= self._pools

    def _to_ask(self) -> set[str]:
        now = self._clock.monotonic()
        again = {
            pool
            for pool, _ in self._wanted
            if now - self._asked_at.get(pool, float("-inf")) >= _ASK_AGAIN_S
        }
        return self._due | again

    async def _ask_edges(self, pool: str) -> None:
        self._due.discard(pool)
        self._asked_at[pool] = self._clock.monotonic()
        for key in [key for key in self._wanted if key[0] == pool]:
            self._wanted[key] -= 1
            if not self._wanted[key]:
                del self._wanted[key]
        subject = subjects.leases_query(pool)
        query = events_pb2.LeaseQuery(envelope=self._stamp.next(subject), pool=pool)
        try:
            answers = await self._bus.query(subject, query.SerializeToString(), timeout_s=_ANSWER_S)
        except BusUnavailableError as error:
            log.debug("lease-query-failed", pool=pool, error=str(error))
            self._due.add(pool)
            return
        now = self._clock.monotonic()
        for answer in answers:
            try:
                self._take_over(pool, events_pb2.LeaseSnapshot.FromString(answer), now)
            except DecodeError as error:
                log.warning("lease-snapshot-unreadable", pool=pool, error=str(error))

    def _take_over(self, pool: str, snapshot: events_pb2.LeaseSnapshot, now: float) -> None:
        edge, epoch = snapshot.envelope.publisher, snapshot.envelope.epoch
        told = (epoch, snapshot.sequences["picked"]) if "picked" in snapshot.sequences else None
        leases = [
            decode_lease(item, now, edge=edge, pool=pool, told_at=told or (0, 0))
            for item in snapshot.leases
        ]
        # What the edge told after it wrote the snapshot has been applied already, and stays: a
        # finished lease is remembered as gone, and an opened one was told of after `told`.
        self._table.replace_edge(edge, leases, now, pool=pool, up_to=told)
        for kind, sequence in snapshot.sequences.items():
            if kind in _KINDS:
                self._reader(pool, kind).restart_at(edge, epoch, sequence)
        self._wanted.pop((pool, edge), None)

    def _read(self, kind: str, payload: bytes) -> events_pb2.RequestEvents | None:
        message = events_pb2.RequestEvents.FromString(payload)
        self._learn(message.pool)
        edge = message.envelope.publisher
        reader = self._reader(message.pool, kind)
        last_epoch = reader.epoch(edge)
        arrival = reader.judge(message.envelope)
        if arrival is Arrival.OLD:
            return None
        restarted = last_epoch is not None and message.envelope.epoch > last_epoch
        if arrival is Arrival.GAP or restarted or not self._table.knows(edge):
            self.gaps += arrival is Arrival.GAP
            if self._asks:
                self._want(message.pool, edge)
            elif arrival is Arrival.GAP:
                now = self._clock.monotonic()
                self._table.replace_edge(edge, (), now, pool=message.pool)
        self._table.heard(edge, self._clock.monotonic())
        if len(self._spoke) < _MOST_EDGES:
            self._spoke.add(edge)
        return message

    def _reader(self, pool: str, kind: str) -> SequenceReader:
        return self._readers.setdefault((pool, kind), SequenceReader())

    def _learn(self, pool: str) -> None:
        if pool not in self._pools:
            self._pools.add(pool)
            self._due.add(pool)

    def _want(self, pool: str, edge: str) -> None:
        if len(self._wanted) < _MOST_EDGES:
            self._wanted[pool, edge] = _MOST_TRIES

    def _picked(self, _: str, payload: bytes) -> None:
        message = self._read("picked", payload)
        if message is None:
            return
        now = self._clock.monotonic()
        edge, pool = message.envelope.publisher, message.pool
        told_at = (message.envelope.epoch, message.envelope.sequence)
        for event in message.picked:
            lease = decode_lease(event.lease, now, edge=edge, pool=pool, told_at=told_at)
            event.lease.pool = lease.pool  # an edge may leave it to the message
            if self._before_picked is not None:
                self._before_picked(event)
            self._table.open(lease, now)
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
        if beat.description.layer != "ext-proc":
            return
        edge, pools = beat.envelope.publisher, list(beat.pools)
        new = not self._table.knows(edge)
        self._table.heard(edge, self._clock.monotonic())
        mine = [pool for pool in pools if self._pool in (subjects.ALL, pool)]
        for pool in mine:
            self._learn(pool)
        quiet = edge not in self._spoke
        self._spoke.discard(edge)
        # Where the heartbeat counts leases of pools that are not followed here, it tells nothing.
        differs = mine == pools and self._table.confirmed(edge) != beat.open_leases
        if self._asks and (new or (quiet and differs)):
            for pool in mine:
                self._want(pool, edge)
