"""The leases that this edge owns: opens and closes them, tells the bus, answers who asks for them.

A lease ends by its stream, by the gateway's access log (which may reach another edge, that then
tells of it: see missed_ends.py), or as lost: when its engine has had less to do for a while (see
lease_guard.py), or after `max_lease_s`. Everything here is synchronous: nothing on a request's path
waits for the bus.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from google.protobuf.message import DecodeError

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contract_codec import unpack_block_hashes
from pointsman_common.contracts import events_pb2
from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.envelope import EnvelopeStamp
from pointsman_ext_proc.adapters.missed_ends import MOST_ASKED, MissedEnds
from pointsman_ext_proc.adapters.request_event_publisher import RequestEventPublisher
from pointsman_ext_proc.core.endpoint_directory import EndpointDirectory
from pointsman_ext_proc.core.exchange_events import Dispatched
from pointsman_ext_proc.core.lease_guard import HeldLease, LeaseGuard
from pointsman_ext_proc.core.logged_end import LoggedEnd
from pointsman_ext_proc.core.open_lease import (
    LeaseEnd,
    OpenLease,
    finished_event,
    milliseconds,
)
from pointsman_ext_proc.core.published_blocks import PublishedBlocks
from pointsman_ext_proc.core.told_descriptors import ToldDescriptors, When
from pointsman_ext_proc.core.told_ends import ToldEnds

SWEEP_S = 1.0
REMEMBERED_ENDS = 65_536
REMEMBER_ENDS_S = 600.0
"""Ends of other edges' leases: not told twice, and told again to an owner that missed its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRules:
    """See settings.py for each."""

    pool: str
    max_lease_s: float = 3600.0
    max_open: int = 200_000
    republish_blocks_s: float = 30.0
    publish_descriptors: When = "never"
    ends_in_access_log: bool = False


class LeaseBook:
    """A part of a service. `on_opened` and `on_ended` see each lease once."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        stamp: EnvelopeStamp,
        publisher: RequestEventPublisher,
        directory: EndpointDirectory,
        *,
        rules: LeaseRules,
        on_opened: Callable[[OpenLease], None] = lambda _: None,
        on_ended: Callable[[OpenLease, LeaseEnd, float], None] = lambda *_: None,
    ) -> None:
        self._bus, self._clock, self._stamp = bus, clock, stamp
        self._publisher, self._directory, self._rules = publisher, directory, rules
        self._on_opened, self._on_ended = on_opened, on_ended
        self._open: OrderedDict[str, OpenLease] = OrderedDict()
        self._told = ToldEnds(most=REMEMBERED_ENDS, keep_s=REMEMBER_ENDS_S)
        self._missed = MissedEnds(
            bus,
            clock,
            stamp,
            pool=rules.pool,
            opened_before=self._opened_before,
            close=self._end_missed,
        )
        self._guard = LeaseGuard()
        self._blocks = PublishedBlocks(period_s=rules.republish_blocks_s)
        self.descriptors = ToldDescriptors(rules.publish_descriptors)
        self._prefix = f"{secrets.token_hex(5)}-"
        self._count = 0

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, lease_id: object) -> bool:
        return lease_id in self._open

    def new_id(self) -> str:
        """Unique among all edges, and telling nothing."""
        self._count += 1
        return f"{self._prefix}{self._count:x}"

    def open(self, dispatched: Dispatched, *, arrived_at: float, request_bytes: int) -> OpenLease:
        """The request goes to its endpoint now. `arrived_at` is in monotonic seconds."""
        now = self._clock.monotonic()
        primary = dispatched.destinations[0]
        lease = OpenLease(
            dispatched,
            arrived_at,
            now,
            request_bytes=request_bytes,
            uid=primary.uid,
            address=primary.address,
        )
        if len(self._open) >= self._rules.max_open:
            self._give_up(next(iter(self._open.values())))
        self._open[lease.lease_id] = lease
        self._publisher.picked(self._picked_event(lease, now))
        self._on_opened(lease)
        return lease

    def first_chunk(self, lease_id: str, *, streaming: bool) -> None:
        """The first bytes of a good answer came; of a stream they are its first token."""
        lease = self._open.get(lease_id)
        if lease is None or lease.first_chunk_at is not None:
            return
        lease.first_chunk_at, lease.streaming = self._clock.monotonic(), streaming
        if streaming:  # the end of an answer in one piece follows at once, and tells as much
            lease.serving = True
            self._tell_serving(lease, moved=False)

    def served(self, lease_id: str, address: str) -> None:
        """The gateway says which endpoint answers: the lease moves there if it is another."""
        lease = self._open.get(lease_id)
        if lease is None or not self._moves(lease, address):
            return
        if lease.serving:
            self._tell_serving(lease, moved=True)
        else:  # not its first token yet: opened again, elsewhere
            self._publisher.picked(self._picked_event(lease, self._clock.monotonic()))

    def end(self, lease_id: str, end: LeaseEnd) -> None:
        lease = self._open.pop(lease_id, None)
        if lease is not None:
            self._tell_end(lease, end, self._clock.monotonic())

    def abandon(
        self, lease_id: str, descriptor: RequestDescriptor | None, *, http_status: int, cause: str
    ) -> None:
        """A layer may have counted the request under this id; it was never sent anywhere."""
        descriptor = descriptor or RequestDescriptor()
        self._publisher.finished(
            events_pb2.RequestFinished(
                lease_id=lease_id,
                http_status=http_status,
                cause=cause,
                model=descriptor.target_model,
                fairness_id=descriptor.fairness_id,
            )
        )

    def ended_in_access_log(self, logged: LoggedEnd) -> None:
        """The gateway's access log tells the end of a lease, of this edge or of another."""
        lease = self._open.get(logged.lease_id)
        if logged.connect_failed:
            self._directory.mark_unreachable(logged.served or (lease.address if lease else ""))
        if lease is not None:
            self._moves(lease, logged.served)
            self.end(
                logged.lease_id,
                LeaseEnd(logged.http_status, logged.cause, logged.response_bytes),
            )
            return
        is_ours = logged.lease_id.startswith(self._prefix)
        if is_ours or logged.lease_id in self._told or not self._rules.ends_in_access_log:
            return  # told already: by its stream, or by its owner's
        endpoint = self._directory.find(logged.served)
        event = events_pb2.RequestFinished(
            lease_id=logged.lease_id,
            endpoint_uid="" if endpoint is None else endpoint.uid,
            endpoint_address=logged.served,
            http_status=logged.http_status,
            duration_ms=milliseconds(logged.duration_s),
            cause=logged.cause,
        )
        self._told.add(event, self._clock.monotonic())
        self._publisher.finished(event)

    async def run(self) -> None:
        pool = self._rules.pool
        ends = [self._bus.respond(subjects.leases_query(pool), self._answer)]
        if self._rules.publish_descriptors == "auto":
            ends.append(self._bus.subscribe(subjects.shadow(pool, subjects.ALL), self._on_shadow))
        if self._rules.ends_in_access_log:
            ends.append(self._bus.subscribe(subjects.request_finished(pool), self._on_finished))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publisher.run())
                group.create_task(self._sweep())
                if self._rules.ends_in_access_log:
                    group.create_task(self._missed.run())
        finally:
            for end in ends:
                end()

    async def drain(self, grace_s: float) -> None:
        """Hand what is left to say to the bus; the streams have ended before."""
        del grace_s
        self._publisher.flush()

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_S)
            now = self._clock.monotonic()
            self._told.expire(now)
            self._settle_contradicted(now)
            too_old = now - self._rules.max_lease_s
            while self._open:
                oldest = next(iter(self._open.values()))
                if oldest.opened_at > too_old:
                    break
                self._give_up(oldest)

    def _settle_contradicted(self, now: float) -> None:
        held = (
            HeldLease(lease.lease_id, lease.uid, lease.opened_at) for lease in self._open.values()
        )
        for lease_id in self._guard.contradicted(held, self._directory.engine_reports(), now):
            self.end(lease_id, LeaseEnd(0, "lost"))

    def _give_up(self, lease: OpenLease) -> None:
        self.end(lease.lease_id, LeaseEnd(0, "lost"))

    def _tell_end(self, lease: OpenLease, end: LeaseEnd, at: float) -> None:
        self._publisher.finished(finished_event(lease, end, at))
        self._on_ended(lease, end, at)

    def _opened_before(self, moment: float) -> Sequence[str]:
        older = takewhile(lambda lease: lease.opened_at <= moment, self._open.values())
        return [lease.lease_id for lease in islice(older, MOST_ASKED)]

    def _end_missed(self, event: events_pb2.RequestFinished) -> None:
        lease = self._open.pop(event.lease_id, None)
        if lease is None:
            return
        now = self._clock.monotonic()
        at = min(now, lease.opened_at + event.duration_ms / 1e3) if event.duration_ms else now
        # Told again: others may have missed it as well, and were confirmed in it by our answers.
        self._tell_end(lease, LeaseEnd(event.http_status, event.cause), at)

    def _picked_event(self, lease: OpenLease, now: float) -> events_pb2.RequestPicked:
        descriptor = lease.descriptor
        event = events_pb2.RequestPicked(
            lease=lease.as_message(edge=self._stamp.publisher, pool=self._rules.pool, now=now),
            block_tokens=descriptor.block_tokens,
            unscheduled=lease.dispatched.unscheduled,
        )
        for item in lease.dispatched.destinations[1:]:
            event.fallbacks.add(uid=item.uid, address=item.address)
        packed = descriptor.prompt_block_hashes
        if packed and len(packed) % 8 == 0:
            hashes = unpack_block_hashes(packed)
            first = self._blocks.first_new(lease.uid or lease.address, hashes, now)
            event.first_block = first
            event.prompt_block_hashes = packed[8 * first :]
        told = self.descriptors.of(descriptor, now)
        if told is not None:
            event.descriptor.CopyFrom(told)
        return event

    def _tell_serving(self, lease: OpenLease, *, moved: bool) -> None:
        first_chunk_at = lease.first_chunk_at or lease.opened_at
        self._publisher.serving(
            events_pb2.RequestServing(
                lease_id=lease.lease_id,
                endpoint_uid=lease.uid,
                endpoint_address=lease.address,
                ttft_ms=milliseconds(first_chunk_at - lease.opened_at),
                moved=moved,
            )
        )

    def _moves(self, lease: OpenLease, address: str) -> bool:
        if not address or address == lease.address:
            return False
        endpoint = self._directory.find(address)
        if endpoint is None:
            return False  # a proxy in between, say: no endpoint that a layer knows
        # The gateway went on to a fallback, so the primary did not take the request.
        self._directory.mark_unreachable(lease.address)
        lease.uid, lease.address = endpoint.uid, endpoint.address
        return True

    def _on_shadow(self, _: str, payload: bytes) -> None:
        try:
            report = events_pb2.ShadowReport.FromString(payload)
        except DecodeError:
            return
        if report.wants_descriptors:
            self.descriptors.wish(self._clock.monotonic())

    def _on_finished(self, _: str, payload: bytes) -> None:
        message = events_pb2.RequestEvents.FromString(payload)
        if message.envelope.publisher == self._stamp.publisher:
            return
        self._missed.follow(message.envelope)
        now = self._clock.monotonic()
        for event in message.finished:
            lease = self._open.pop(event.lease_id, None)
            if lease is not None:  # everybody heard of its end already
                self._on_ended(lease, LeaseEnd(event.http_status, event.cause), now)
            elif not event.lease_id.startswith(self._prefix):
                self._told.add(event, now)

    def _answer(self, subject: str, payload: bytes) -> bytes | None:
        try:
            query = events_pb2.LeaseQuery.FromString(payload)
        except DecodeError:
            query = events_pb2.LeaseQuery()
        if not query.check:
            return self._snapshot(subject)
        if query.envelope.publisher == self._stamp.publisher:
            return None
        answer = events_pb2.LeaseSnapshot(
            envelope=self._stamp.next(subject),
            pool=self._rules.pool,
            ended=self._told.among(query.check),
        )
        return answer.SerializeToString()

    def _snapshot(self, subject: str) -> bytes:
        # What was not sent yet is sent first, so that the sequences and the leases agree.
        self._publisher.flush()
        now = self._clock.monotonic()
        edge, pool = self._stamp.publisher, self._rules.pool
        snapshot = events_pb2.LeaseSnapshot(
            envelope=self._stamp.next(subject),
            pool=pool,
            leases=(
                lease.as_message(edge=edge, pool=pool, now=now) for lease in self._open.values()
            ),
            sequences=self._publisher.sequences(),
        )
        return snapshot.SerializeToString()
