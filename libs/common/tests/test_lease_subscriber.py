import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pointsman_common import subjects
from pointsman_common.contracts import events_pb2
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.in_flight import LeaseTable
from pointsman_common.lease_subscriber import LeaseSubscriber
from pointsman_common.testing.builders import POOL
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock

SUBJECTS = {
    "picked": subjects.request_picked,
    "serving": subjects.request_serving,
    "finished": subjects.request_finished,
}


class FakeEdge:
    """An edge that keeps its leases, tells of them, and answers queries unless it is deaf."""

    def __init__(
        self, bus: InMemoryBus, clock: VirtualClock, name: str = "ext-proc/a", *pools: str
    ) -> None:
        self.bus, self.clock, self.pools = bus, clock, pools or (POOL,)
        self.stamp = EnvelopeStamp(name, clock)
        self.open: dict[str, events_pb2.Lease] = {}
        self.asked, self.deaf = 0, False
        self.before_answer: list[bytes] = []
        """Sent on the bus after the answer is written and before it is delivered."""
        for pool in self.pools:
            bus.respond(subjects.leases_query(pool), self._answer)

    def picked(self, lease_id: str, *, pool: str = POOL, endpoint: str = "e1") -> bytes:
        lease = events_pb2.Lease(
            lease_id=lease_id,
            edge=self.stamp.publisher,
            pool=pool,
            endpoint_uid=endpoint,
            prompt_tokens=100,
            prefill_tokens=60,
        )
        self.open[lease_id] = lease
        message = self._message("picked", pool)
        message.picked.add(lease=lease)
        return message.SerializeToString()

    def serving(self, lease_id: str, *, pool: str = POOL, moved_to: str = "") -> bytes:
        message = self._message("serving", pool)
        message.serving.add(lease_id=lease_id, endpoint_uid=moved_to, moved=bool(moved_to))
        self.open[lease_id].serving = True
        return message.SerializeToString()

    def finished(self, lease_id: str, *, pool: str = POOL) -> bytes:
        self.open.pop(lease_id, None)
        message = self._message("finished", pool)
        message.finished.add(lease_id=lease_id)
        return message.SerializeToString()

    def send(self, kind: str, payload: bytes, *, pool: str = POOL) -> None:
        self.bus.publish(SUBJECTS[kind](pool), payload)

    def pick(self, lease_id: str, *, pool: str = POOL, endpoint: str = "e1") -> None:
        self.send("picked", self.picked(lease_id, pool=pool, endpoint=endpoint), pool=pool)

    def serve(self, lease_id: str, *, moved_to: str = "") -> None:
        self.send("serving", self.serving(lease_id, moved_to=moved_to))

    def finish(self, lease_id: str, *, pool: str = POOL) -> None:
        self.send("finished", self.finished(lease_id, pool=pool), pool=pool)

    def beat(self, *, layer: str = "ext-proc") -> None:
        beat = events_pb2.LayerHeartbeat(
            envelope=self.stamp.next(subjects.HEARTBEAT),
            description=DescribeResponse(layer=layer),
            pools=self.pools,
            open_leases=len(self.open),
        )
        self.bus.publish(subjects.HEARTBEAT, beat.SerializeToString())

    def _message(self, kind: str, pool: str) -> events_pb2.RequestEvents:
        return events_pb2.RequestEvents(envelope=self.stamp.next(SUBJECTS[kind](pool)), pool=pool)

    def _answer(self, _: str, payload: bytes) -> bytes | None:
        query = events_pb2.LeaseQuery.FromString(payload)
        if self.deaf or query.pool not in self.pools:
            return None
        self.asked += 1
        answer = events_pb2.LeaseSnapshot(
            envelope=self.stamp.next("answers"),
            pool=query.pool,
            leases=[lease for lease in self.open.values() if lease.pool == query.pool],
            sequences={
                kind: self.stamp.last(subject(query.pool)).sequence
                for kind, subject in SUBJECTS.items()
            },
        )
        written = answer.SerializeToString()
        for lease_id in self.before_answer:
            self.pick(lease_id.decode())
        self.before_answer = []
        return written


class World:
    def __init__(self, *, pool: str = subjects.ALL) -> None:
        self.bus, self.clock = InMemoryBus(), VirtualClock()
        self.table = LeaseTable(edge_ttl_s=3.0)
        self.seen: list[str] = []
        self.subscriber = LeaseSubscriber(
            self.bus,
            self.clock,
            self.table,
            EnvelopeStamp("scheduler/test", self.clock),
            pool=pool,
            on_picked=lambda event: self.seen.append(f"picked {event.lease.lease_id}"),
            on_serving=lambda event: self.seen.append(f"serving {event.lease_id}"),
            on_finished=lambda event: self.seen.append(
                f"finished {event.lease_id} {event.lease_id in self.table}"
            ),
        )
        self.edge = FakeEdge(self.bus, self.clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        task = asyncio.create_task(self.subscriber.run())
        await self.clock.advance(0)
        yield self
        assert not task.done(), "the part has ended by itself"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def open_leases(self) -> set[str]:
        return {lease.lease_id for lease in self.table.leases()}


async def test_events_open_serve_and_close_leases_and_listeners_see_them() -> None:
    async with World().running() as world:
        world.edge.pick("l1")
        assert world.table.load("e1").prefill_tokens == 60
        world.edge.serve("l1", moved_to="e2")
        assert world.table.load("e2").context_tokens == 100
        world.edge.finish("l1")
        assert world.open_leases() == set()
        assert world.seen == ["picked l1", "serving l1", "finished l1 True"]


async def test_a_lease_that_leaves_its_pool_to_the_message_is_shown_with_it() -> None:
    seen: list[str] = []
    world = World()
    listener = LeaseSubscriber(
        world.bus,
        world.clock,
        LeaseTable(),
        EnvelopeStamp("scheduler/b", world.clock),
        on_picked=lambda event: seen.append(event.lease.pool),
    )
    task = asyncio.create_task(listener.run())
    await world.clock.advance(0.0)
    message = events_pb2.RequestEvents.FromString(world.edge.picked("l1"))
    message.picked[0].lease.pool = ""
    world.edge.send("picked", message.SerializeToString())
    task.cancel()
    assert seen == [POOL]


async def test_a_reader_that_starts_late_learns_the_open_leases_from_the_edges() -> None:
    world = World()
    world.edge.pick("l1")
    world.edge.pick("l2")
    world.edge.finish("l1")
    async with world.running():
        world.edge.beat()
        await world.clock.advance(0.1)
        assert world.open_leases() == {"l2"}
        assert world.seen == []
        world.edge.pick("l3")
        assert (world.open_leases(), world.subscriber.gaps) == ({"l2", "l3"}, 0)


async def test_a_pool_given_by_name_is_asked_for_at_once() -> None:
    world = World(pool=POOL)
    world.edge.pick("l1")
    async with world.running():
        assert world.open_leases() == {"l1"}


async def test_a_lost_pick_and_a_lost_end_are_mended_by_asking() -> None:
    async with World().running() as world:
        world.edge.pick("l1")
        await world.clock.advance(2.0)
        world.edge.picked("lost")
        world.edge.pick("l2")
        assert world.open_leases() == {"l1", "l2"}
        await world.clock.advance(0.2)
        assert world.open_leases() == {"l1", "lost", "l2"}
        world.edge.finished("l1")
        world.edge.finish("l2")
        await world.clock.advance(1.2)
        assert (world.open_leases(), world.subscriber.gaps) == ({"lost"}, 2)


async def test_a_lease_opened_while_the_answer_is_under_way_survives_it() -> None:
    async with World().running() as world:
        world.edge.pick("l1")
        world.edge.before_answer = [b"during"]
        await world.clock.advance(2.0)
        assert world.open_leases() == {"l1", "during"}


async def test_messages_that_come_again_are_ignored() -> None:
    async with World().running() as world:
        picked = world.edge.picked("l1")
        finished = world.edge.finished("l1")
        for _ in range(2):
            world.edge.send("picked", picked)
            world.edge.send("finished", finished)
        assert (world.open_leases(), len(world.seen)) == (set(), 2)


async def test_the_kinds_of_events_may_overtake_each_other() -> None:
    async with World().running() as world:
        first, served, ended = (
            world.edge.picked("l1"),
            world.edge.serving("l1", moved_to="e2"),
            world.edge.finished("l1"),
        )
        second, second_served = world.edge.picked("l2"), world.edge.serving("l2", moved_to="e2")
        world.edge.send("finished", ended)
        world.edge.send("serving", served)
        world.edge.send("serving", second_served)
        world.edge.send("picked", first)
        world.edge.send("picked", second)
        assert world.open_leases() == {"l2"}
        assert world.table.load("e2").serving == 1
        assert world.table.load("e1").requests == 0


async def test_pools_of_one_edge_have_sequences_and_snapshots_of_their_own() -> None:
    world = World()
    edge = FakeEdge(world.bus, world.clock, "ext-proc/b", "default/one", "default/two")
    async with world.running():
        edge.pick("one-1", pool="default/one")
        edge.pick("two-1", pool="default/two")
        edge.pick("one-2", pool="default/one")
        assert world.subscriber.gaps == 0
        assert world.open_leases() == {"one-1", "two-1", "one-2"}
        await world.clock.advance(2.0)
        assert edge.asked >= 2
        assert world.open_leases() == {"one-1", "two-1", "one-2"}


async def test_a_silent_edge_loses_its_leases_and_gets_them_back_when_it_speaks_again() -> None:
    async with World().running() as world:
        world.edge.pick("l1")
        await world.clock.advance(3.5)
        assert world.open_leases() == set()
        world.edge.beat()
        await world.clock.advance(1.0)
        assert world.open_leases() == {"l1"}
        await world.clock.advance(3.5)
        world.edge.pick("l2")
        await world.clock.advance(1.0)
        assert world.open_leases() == {"l1", "l2"}


async def test_heartbeats_keep_the_leases_of_a_quiet_edge() -> None:
    async with World().running() as world:
        world.edge.pick("l1")
        for _ in range(10):
            world.edge.beat()
            await world.clock.advance(1.0)
        assert world.open_leases() == {"l1"}


async def test_heartbeats_of_other_layers_are_no_sign_of_an_edge() -> None:
    async with World().running() as world:
        world.edge.pick("l1")
        for _ in range(4):
            world.edge.beat(layer="router")
            await world.clock.advance(1.0)
        assert world.open_leases() == set()


async def test_the_loss_of_the_last_message_shows_in_the_heartbeats_of_a_quiet_edge() -> None:
    async with World().running() as world:
        world.edge.pick("l1")
        await world.clock.advance(1.5)
        world.edge.beat()
        world.edge.finished("l1")
        asked = world.edge.asked
        for _ in range(3):
            await world.clock.advance(1.0)
            world.edge.beat()
        assert (world.open_leases(), world.subscriber.gaps) == (set(), 0)
        assert world.edge.asked == asked + 1, "once mended it is not asked again"


async def test_a_busy_edge_is_not_asked_because_its_heartbeat_counts_differently() -> None:
    async with World().running() as world:
        world.edge.pick("l0")
        await world.clock.advance(1.5)
        asked = world.edge.asked
        for index in range(1, 6):
            world.edge.open[f"not-told-yet-{index}"] = events_pb2.Lease()
            world.edge.pick(f"l{index}")
            world.edge.beat()
            await world.clock.advance(1.0)
        assert world.edge.asked == asked


async def test_an_edge_that_does_not_answer_is_asked_again_a_few_times() -> None:
    async with World().running() as world:
        world.edge.pick("l1")
        await world.clock.advance(2.0)
        world.edge.deaf = True
        world.edge.picked("lost")
        world.edge.pick("l2")
        await world.clock.advance(1.5)
        assert world.open_leases() == {"l1", "l2"}
        world.edge.deaf = False
        await world.clock.advance(1.5)
        assert world.open_leases() == {"l1", "lost", "l2"}
        queries = len(world.bus.published)
        world.edge.beat()
        await world.clock.advance(2.0)
        assert len(world.bus.published) == queries + 1, "mended: only the heartbeat was sent"


async def test_an_edge_that_starts_again_under_its_name_leaves_no_old_leases() -> None:
    async with World().running() as world:
        world.edge.pick("before")
        await world.clock.advance(1.5)
        world.edge.open.clear()
        world.edge.stamp = EnvelopeStamp(world.edge.stamp.publisher, world.clock)
        world.edge.pick("after")
        await world.clock.advance(0.2)
        assert world.open_leases() == {"after"}


async def test_leases_are_asked_for_again_when_the_bus_is_back() -> None:
    async with World().running() as world:
        world.edge.pick("l1")
        await world.clock.advance(1.5)
        world.bus.take_away()
        world.edge.pick("l2")
        world.edge.finish("l1")
        await world.clock.advance(1.0)
        assert world.open_leases() == {"l1"}
        world.bus.bring_back()
        await world.clock.advance(0.2)
        assert world.open_leases() == {"l2"}


async def test_a_service_that_starts_without_the_bus_asks_when_it_is_there() -> None:
    world = World(pool=POOL)
    world.edge.open["l1"] = events_pb2.Lease(lease_id="l1", pool=POOL, endpoint_uid="e1")
    world.bus.take_away()
    async with world.running():
        await world.clock.advance(1.0)
        world.bus.bring_back()
        await world.clock.advance(0.2)
        [lease] = world.table.leases()
        assert lease.edge == "ext-proc/a", "a lease that names no edge is of the one that sent it"


async def test_an_unreadable_answer_spoils_nothing() -> None:
    world = World(pool=POOL)
    world.bus.respond(subjects.leases_query(POOL), lambda *_: b"\xff\xff")
    world.edge.pick("l1")
    async with world.running():
        assert world.open_leases() == {"l1"}
