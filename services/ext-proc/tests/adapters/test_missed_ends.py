"""Ends that another edge told, and that the owner of the lease did not hear."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from pointsman_common import subjects
from pointsman_common.contracts import events_pb2
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.in_flight import LeaseTable
from pointsman_common.lease_subscriber import LeaseSubscriber
from pointsman_common.testing.builders import POOL, an_envelope
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock, settle
from pointsman_ext_proc.adapters.lease_book import LeaseRules
from pointsman_ext_proc.adapters.missed_ends import ASK_EVERY_S, LONG_OPEN_S
from pointsman_ext_proc.core.logged_end import LoggedEnd

RULES = LeaseRules(pool=POOL, ends_in_access_log=True)
QUERY = subjects.leases_query(POOL)


@dataclass
class Edges:
    """An owner of leases, and another edge to which the gateway's access log goes."""

    owner: Any
    other: Any
    bus: InMemoryBus
    clock: VirtualClock

    async def tell(self, *lease_ids: str) -> None:
        """The other edge reads ends in its access log, and tells them in one bus message."""
        for lease_id in lease_ids:
            logged = LoggedEnd(lease_id, 502, duration_s=1.5, connection_lost=True)
            self.other.book.ended_in_access_log(logged)
        await self.clock.advance(0.01)

    async def tell_unheard(self, *lease_ids: str) -> None:
        self.bus.connected = False  # and nobody notices
        await self.tell(*lease_ids)
        self.bus.connected = True


@pytest.fixture
async def edges(running: Callable[..., Awaitable[Any]]) -> Edges:
    bus, clock = InMemoryBus(), VirtualClock()
    owner = await running(RULES, "ext-proc/owner", bus, clock)
    other = await running(RULES, "ext-proc/other", bus, clock)
    return Edges(owner, other, bus, clock)


async def test_an_end_whose_message_was_lost_is_found_after_the_gap(edges: Edges) -> None:
    first, lost, stays = (edges.owner.open() for _ in range(3))
    await edges.tell(first)
    await edges.tell_unheard(lost)
    await edges.tell("of-a-third-edge")
    assert len(edges.owner.book) == 2
    await edges.clock.advance(ASK_EVERY_S)
    _, (lease, end, ended_at) = edges.owner.ended
    assert lease.lease_id == lost
    assert (end.http_status, end.cause) == (502, "connection-failed")
    assert ended_at == lease.opened_at + 1.5
    await edges.clock.advance(2 * LONG_OPEN_S)
    assert stays not in [lease.lease_id for lease, *_ in edges.owner.ended]
    assert len(edges.owner.book) == 1


async def test_a_last_message_that_was_lost_is_found_though_it_leaves_no_gap(
    edges: Edges,
) -> None:
    lease_id = edges.owner.open()
    await edges.tell("of-a-third-edge")
    await edges.tell_unheard(lease_id)
    await edges.clock.advance(2 * LONG_OPEN_S)
    assert [lease.lease_id for lease, *_ in edges.owner.ended] == [lease_id]


async def test_ends_told_while_the_bus_was_away_are_found_when_it_is_back(edges: Edges) -> None:
    lease_id = edges.owner.open()
    await edges.clock.advance(0.01)
    edges.bus.take_away()
    await edges.tell(lease_id)
    edges.bus.bring_back()
    await edges.clock.advance(ASK_EVERY_S)
    assert [lease.lease_id for lease, *_ in edges.owner.ended] == [lease_id]


async def test_what_a_third_edge_heard_helps_when_the_teller_is_gone(
    running: Any, edges: Edges
) -> None:
    lease_id = edges.owner.open()
    teller = EnvelopeStamp("ext-proc/gone", edges.clock)
    subject = subjects.request_finished(POOL)
    deliver = edges.owner.book._on_finished
    for number, finished in enumerate((["x-1"], [lease_id], ["x-2"])):
        message = events_pb2.RequestEvents(
            envelope=teller.next(subject),
            pool=POOL,
            finished=[events_pb2.RequestFinished(lease_id=item) for item in finished],
        )
        edges.other.book._on_finished(subject, message.SerializeToString())
        if number != 1:
            deliver(subject, message.SerializeToString())
    assert len(edges.owner.book) == 1
    await edges.clock.advance(ASK_EVERY_S)
    assert len(edges.owner.book) == 0


async def test_a_found_end_is_told_again_for_others_who_missed_it(edges: Edges) -> None:
    table = LeaseTable()
    stamp = EnvelopeStamp("scheduler/a", edges.clock)
    reader = LeaseSubscriber(edges.bus, edges.clock, table, stamp, pool=POOL)
    task = asyncio.create_task(reader.run())
    await settle()
    lease_id = edges.owner.open()
    await edges.clock.advance(0.01)
    assert len(table) == 1
    await edges.tell_unheard(lease_id)
    await edges.tell("of-a-third-edge")
    await edges.clock.advance(ASK_EVERY_S + 1.0)
    assert len(table) == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_peers_are_asked_a_few_times_after_a_gap_and_then_left_in_peace(
    edges: Edges,
) -> None:
    asked_at: list[float] = []
    edges.bus.respond(QUERY, lambda *_: asked_at.append(edges.clock.monotonic()))
    edges.owner.open()
    await edges.tell("x-1")
    await edges.tell_unheard("x-2")
    await edges.tell("x-3")
    await edges.clock.advance(LONG_OPEN_S - 1.0)
    assert 2 <= len(asked_at) <= 5
    waits = [later - earlier for earlier, later in pairwise(asked_at)]
    assert min(waits) >= ASK_EVERY_S


async def test_an_edge_without_open_leases_asks_nobody(edges: Edges) -> None:
    asked: list[bytes] = []
    edges.bus.respond(QUERY, lambda _, payload: asked.append(payload))
    edges.bus.take_away()
    edges.bus.bring_back()
    await edges.clock.advance(2 * LONG_OPEN_S)
    assert asked == []


async def test_where_streams_tell_the_end_nobody_is_asked(running: Any) -> None:
    desk = await running()
    asked: list[bytes] = []
    desk.bus.respond(QUERY, lambda _, payload: asked.append(payload))
    desk.open()
    await desk.clock.advance(3 * LONG_OPEN_S)
    assert asked == []


async def test_an_answer_that_cannot_be_read_or_knows_nothing_changes_nothing(
    edges: Edges,
) -> None:
    lease_id = edges.owner.open()
    of_an_older_edge = events_pb2.LeaseSnapshot(
        envelope=an_envelope(1, publisher="ext-proc/old"),
        leases=[events_pb2.Lease(lease_id=lease_id)],
    ).SerializeToString()
    for answer in (b"\xff\xff", of_an_older_edge, b""):
        edges.bus.respond(QUERY, lambda *_, answer=answer: answer)
    await edges.clock.advance(2 * LONG_OPEN_S)
    assert len(edges.owner.book) == 1


async def test_a_reader_that_asks_for_leases_gets_them_and_no_ends(edges: Edges) -> None:
    lease_id = edges.owner.open()
    await edges.tell("x-1")
    for payload in (events_pb2.LeaseQuery(pool=POOL).SerializeToString(), b"\xff"):
        answers = await edges.bus.query(QUERY, payload, timeout_s=0.1)
        snapshots = [events_pb2.LeaseSnapshot.FromString(answer) for answer in answers]
        assert [item.lease_id for each in snapshots for item in each.leases] == [lease_id]
        assert [end for each in snapshots for end in each.ended] == []
        assert all(each.sequences for each in snapshots)


async def test_an_end_told_long_ago_is_forgotten(edges: Edges) -> None:
    await edges.tell("x-1")
    query = events_pb2.LeaseQuery(pool=POOL, check=["x-1"]).SerializeToString()

    async def known() -> int:
        answers = await edges.bus.query(QUERY, query, timeout_s=0.1)
        return sum(len(events_pb2.LeaseSnapshot.FromString(answer).ended) for answer in answers)

    assert await known() == 2  # the teller, and the one that heard it
    await edges.clock.advance(601.0)
    assert await known() == 0
