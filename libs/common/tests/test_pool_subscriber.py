import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pointsman_common import subjects
from pointsman_common.contracts import pool_pb2
from pointsman_common.pool_subscriber import GET_SNAPSHOT, PoolSubscriber
from pointsman_common.pool_view import PoolView
from pointsman_common.rpc_channel import HookChannel, RpcFailed
from pointsman_common.testing.builders import (
    POOL,
    a_pool_config,
    a_snapshot,
    an_endpoint,
    an_envelope,
)
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock
from wire import RpcStatus


class FakeDatalayer(HookChannel):
    """Answers GetSnapshot as it is told to."""

    def __init__(self) -> None:
        super().__init__("grpc://datalayer:9104", VirtualClock())
        self.asked: list[str] = []
        self.answer: pool_pb2.GetSnapshotResponse | bytes | None = None
        self.on_ask: list[pool_pb2.PoolDelta] = []
        self.bus: InMemoryBus | None = None

    async def call(
        self, path: str, message: bytes | Callable[[], bytes], *, timeout_s: float
    ) -> bytes:
        assert path == GET_SNAPSHOT
        assert isinstance(message, bytes)
        assert timeout_s > 0
        self.asked.append(pool_pb2.GetSnapshotRequest.FromString(message).pool)
        for delta in self.on_ask:
            assert self.bus is not None
            self.bus.publish(subjects.pool_delta(POOL), delta.SerializeToString())
        if self.answer is None:
            raise RpcFailed(RpcStatus.UNAVAILABLE, "nobody is there")
        if isinstance(self.answer, bytes):
            return self.answer
        return self.answer.SerializeToString()


class World:
    def __init__(self, *, pool: str = subjects.ALL) -> None:
        self.bus, self.clock = InMemoryBus(), VirtualClock()
        self.view, self.datalayer = PoolView(max_age_s=2.0), FakeDatalayer()
        self.datalayer.bus = self.bus
        self.subscriber = PoolSubscriber(
            self.bus, self.clock, self.view, pool=pool, datalayer=self.datalayer
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        task = asyncio.create_task(self.subscriber.run())
        await self.clock.advance(0)
        yield self
        assert not task.done(), "the part has ended by itself"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def say(self, sequence: int, *, waiting: int = 0, pool: str = POOL) -> None:
        message = a_snapshot([an_endpoint(1, waiting=waiting)], pool=pool, sequence=sequence)
        self.bus.publish(subjects.pool_snapshot(pool), message.SerializeToString())

    def say_delta(self, sequence: int) -> None:
        message = pool_pb2.PoolDelta(envelope=an_envelope(sequence), pool=POOL)
        self.bus.publish(subjects.pool_delta(POOL), message.SerializeToString())

    def waiting(self) -> int | None:
        record = self.view.get(POOL)
        assert record is not None
        return record.endpoints["e1"].metrics.waiting_requests


def an_answer(*sequences: int, pool: str = POOL, waiting: int = 0) -> pool_pb2.GetSnapshotResponse:
    return pool_pb2.GetSnapshotResponse(
        pools=[
            pool_pb2.PoolState(
                config=a_pool_config(),
                snapshot=a_snapshot([an_endpoint(1, waiting=waiting)], pool=pool, sequence=item),
            )
            for item in sequences
        ]
    )


async def test_the_state_is_asked_for_at_the_start_and_then_followed_on_the_bus() -> None:
    world = World()
    world.datalayer.answer = an_answer(5, waiting=5)
    async with world.running():
        assert world.waiting() == 5
        world.say(6, waiting=6)
        assert world.waiting() == 6
        for sequence in range(7, 40):
            await world.clock.advance(0.1)
            world.say_delta(sequence)
    assert world.datalayer.asked == [""]


async def test_one_pool_is_asked_for_by_its_name_and_others_are_not_heard() -> None:
    world = World(pool=POOL)
    async with world.running():
        world.say(1, pool="default/other")
        world.say(1)
    assert world.datalayer.asked == [POOL]
    assert list(world.view.pools()) == [POOL]


async def test_a_gap_is_mended_by_asking() -> None:
    world = World()
    world.datalayer.answer = an_answer(1)
    async with world.running():
        await world.clock.advance(0.6)
        world.say_delta(3)
        world.datalayer.answer = an_answer(3, waiting=3)
        await world.clock.advance(0.1)
    assert world.datalayer.asked == ["", ""]
    assert world.waiting() == 3


async def test_deltas_that_come_while_the_answer_is_under_way_are_not_lost() -> None:
    world = World()
    world.datalayer.answer = an_answer(3)
    world.datalayer.on_ask = [
        pool_pb2.PoolDelta(envelope=an_envelope(4), pool=POOL),
        pool_pb2.PoolDelta(envelope=an_envelope(5), pool=POOL),
    ]
    async with world.running():
        record = world.view.get(POOL)
        assert record is not None
        assert record.sequence == 5


async def test_a_silent_bus_makes_the_subscriber_ask_the_datalayer_each_second() -> None:
    world = World()
    world.datalayer.answer = an_answer(1)
    async with world.running():
        for sequence in range(2, 8):
            world.datalayer.answer = an_answer(sequence, waiting=sequence)
            await world.clock.advance(1.2)
        assert world.waiting() == 7
    assert 5 <= len(world.datalayer.asked) <= 8


async def test_a_datalayer_that_is_away_or_talks_nonsense_is_asked_again_and_stops_nothing() -> (
    None
):
    world = World()
    async with world.running():
        await world.clock.advance(2.0)
        assert 3 <= len(world.datalayer.asked) <= 5, "not more often than twice a second"
        world.datalayer.answer = b"\xff\xff"
        await world.clock.advance(1.0)
        world.datalayer.answer = an_answer(1, waiting=9)
        await world.clock.advance(1.0)
        assert world.waiting() == 9


async def test_a_pool_that_the_datalayer_no_longer_names_is_forgotten_after_a_while() -> None:
    world = World()
    world.datalayer.answer = an_answer(1)
    async with world.running():
        world.datalayer.answer = pool_pb2.GetSnapshotResponse()
        await world.clock.advance(100.0)
        assert list(world.view.pools()) == [POOL], "an empty answer knows nothing yet"
        world.datalayer.answer = an_answer(1, pool="default/other")
        world.datalayer.answer.pools[0].config.pool = "default/other"
        await world.clock.advance(1.0)
        assert list(world.view.pools()) == ["default/other"]


async def test_configurations_come_over_the_bus() -> None:
    world = World()
    async with world.running():
        world.bus.publish(subjects.pool_config(POOL), a_pool_config().SerializeToString())
        record = world.view.get(POOL)
        assert record is not None
        assert record.config.hash == "h1"


async def test_the_subscriptions_end_with_the_part() -> None:
    world = World()
    async with world.running():
        world.say(1)
    world.say(2, waiting=2)
    assert world.waiting() == 0
