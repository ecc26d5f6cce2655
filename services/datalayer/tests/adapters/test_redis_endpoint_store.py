"""Last state and history in a real Redis-compatible server, which comes and goes."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from pointsman_common.clock import SystemClock
from pointsman_common.contracts.events_pb2 import RequestFinished
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt
from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.builders import POOL, a_descriptor
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_datalayer.adapters.pool_snapshot_publisher import PoolSnapshotPublisher
from pointsman_datalayer.adapters.redis_endpoint_store import (
    QUEUE,
    RedisAwayError,
    RedisEndpointStore,
)
from pointsman_datalayer.app import digest_limits
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_metrics import Extraction
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.pool_digest import PoolDigests
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.metrics import Metrics
from pointsman_datalayer.settings import DatalayerSettings

SETTINGS = DatalayerSettings()
StartRedis = Callable[[], "subprocess.Popen[str]"]


class Ticks:
    """The real clock, but each sleep is one round of the event loop with its I/O."""

    def __init__(self) -> None:
        self._clock, self.offset = SystemClock(), 0.0

    def monotonic(self) -> float:
        return self._clock.monotonic() + self.offset

    def wall(self) -> float:
        return self._clock.wall() + self.offset

    async def sleep(self, seconds: float) -> None:
        self.offset += seconds
        await self._clock.sleep(0.001)


class World:
    def __init__(self, port: int) -> None:
        self.clock, self.metrics = Ticks(), Metrics()
        self.registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        digests = PoolDigests(self.registry, lambda _: 0, digest_limits(SETTINGS))
        publisher = PoolSnapshotPublisher(
            InMemoryBus(),
            self.clock,
            EnvelopeStamp("datalayer/a", self.clock),
            registry=self.registry,
            digests=digests,
            metrics=self.metrics,
            settings=SETTINGS,
        )
        self.store = RedisEndpointStore(
            f"redis://127.0.0.1:{port}/0",
            self.clock,
            self.registry,
            publisher,
            self.metrics,
            decisions_stored=1000,
        )

    def discover(self, *uids: str, pool: str = POOL) -> None:
        endpoints = tuple(DiscoveredEndpoint(uid, uid, f"{uid}:1", {}, "vllm") for uid in uids)
        config = InferencePool(name=pool, hash="h1", target_ports=(8000,))
        self.registry.discover({pool: DiscoveredPool(config, endpoints)})

    def scrape(self, uid: str, waiting: int) -> None:
        metrics = EndpointMetrics(waiting_requests=waiting, read_at=self.clock.monotonic())
        self.registry.record_scrape(uid, Extraction(metrics, ()))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        task = asyncio.ensure_future(self.store.run())
        try:
            yield
        finally:
            await self.store.drain(1.0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def up(self) -> float | None:
        return self.metrics.registry.get_sample_value("pointsman_datalayer_redis_up")

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not what():
                await self.clock.sleep(0.0)

    async def pass_seconds(self, seconds: float) -> None:
        """Let the store run until its clock has moved on by that much."""
        end = self.clock.offset + seconds
        await self.until(lambda: self.clock.offset >= end)


def a_receipt(number: int) -> DecisionReceipt:
    return DecisionReceipt(
        decision_id=f"d{number}", lease_id=f"l{number}", descriptor=a_descriptor(f"r{number}")
    )


def keep(world: World, number: int) -> None:
    receipt = a_receipt(number)
    world.store.keep_decision(receipt, receipt.SerializeToString())


async def test_a_restarted_datalayer_serves_the_last_state_with_its_age(
    start_redis: StartRedis, free_port: int
) -> None:
    start_redis()
    first = World(free_port)
    first.discover("a", "b")
    first.scrape("a", waiting=6)
    async with first.running():
        await first.pass_seconds(3.0)
    second = World(free_port)
    second.clock.offset = first.clock.offset + 60.0
    async with second.running():
        await second.until(lambda: second.registry.discovered)
        state = second.registry.pools()[POOL]
        assert (state.restored, state.config.hash, state.config.target_ports) == (
            True,
            "h1",
            (8000,),
        )
        one, other = second.registry.endpoints(POOL)
        assert (one.uid, one.ready, one.metrics.waiting_requests) == ("a", True, 6)
        assert 60.0 <= one.metrics.age_s(second.clock.monotonic()) <= 120.0
        assert (other.ready, other.metrics.read_at) == (False, None)


async def test_a_restored_state_is_not_stored_again_as_if_it_were_new(
    start_redis: StartRedis, free_port: int
) -> None:
    start_redis()
    first = World(free_port)
    first.discover("a")
    async with first.running():
        await first.pass_seconds(3.0)
    for _ in range(2):
        later = World(free_port)
        async with later.running():
            await later.until(lambda: POOL in later.registry.pools())  # noqa: B023  (awaited here)
            later.registry.discover({})
            await later.pass_seconds(3.0)
            assert later.registry.pools()[POOL].restored


async def test_a_pool_that_went_is_not_restored(start_redis: StartRedis, free_port: int) -> None:
    start_redis()
    first = World(free_port)
    first.discover("a")
    async with first.running():
        await first.pass_seconds(3.0)
        first.discover("b", pool="default/other")
        await first.pass_seconds(3.0)
    second = World(free_port)
    async with second.running():
        await second.until(lambda: second.up() == 1)
        assert second.registry.pools().keys() == {"default/other"}


async def test_decisions_and_their_ends_are_found_in_the_history(
    start_redis: StartRedis, free_port: int
) -> None:
    start_redis()
    world = World(free_port)
    async with world.running():
        for number in range(1200):
            keep(world, number)
        world.store.keep_finish(POOL, RequestFinished(lease_id="l900", http_status=200))
        await world.pass_seconds(1.0)
        for key in ("d900", "r900"):
            found = await world.store.find(POOL, key)
            assert found is not None
            assert found.receipt == a_receipt(900)
            assert found.finished is not None
            assert found.finished.http_status == 200
        assert await world.store.find(POOL, "d5000") is None
        assert await world.store.find("default/other", "d900") is None


async def test_the_history_is_capped(start_redis: StartRedis, free_port: int) -> None:
    start_redis()
    world = World(free_port)
    async with world.running():
        for number in range(5000):
            keep(world, number)
        await world.pass_seconds(1.0)
        assert await world.store.find(POOL, "d4999") is not None
        assert await world.store.find(POOL, "d10") is None


async def test_without_redis_it_works_on_and_stores_what_waited_when_it_comes(
    start_redis: StartRedis, free_port: int
) -> None:
    world = World(free_port)
    world.discover("a")
    async with world.running():
        keep(world, 1)
        await world.until(lambda: world.clock.offset > 2.0)
        assert world.up() == 0
        with pytest.raises(RedisAwayError):
            await world.store.find(POOL, "d1")
        process = start_redis()
        await world.until(lambda: world.up() == 1)
        await world.pass_seconds(1.0)
        assert await world.store.find(POOL, "d1") is not None
        process.kill()
        process.communicate(timeout=10)
        await world.until(lambda: world.up() == 0)


async def test_what_waits_too_long_is_dropped_oldest_first_and_counted(free_port: int) -> None:
    world = World(free_port)
    for number in range(QUEUE + 7):
        keep(world, number)
    dropped = "pointsman_datalayer_redis_dropped_total"
    assert world.metrics.registry.get_sample_value(dropped) == 7
