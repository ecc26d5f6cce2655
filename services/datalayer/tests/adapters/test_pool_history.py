"""The history of the digests in memory and in a real Redis-compatible server."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

from pointsman_common.clock import SystemClock
from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.builders import POOL
from pointsman_common.testing.waiting import until
from pointsman_datalayer.adapters.pool_history import QUEUE, PoolHistory
from pointsman_datalayer.app import digest_limits
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_metrics import Extraction
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.pool_digest import PoolDigests
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.metrics import Metrics
from pointsman_datalayer.settings import DatalayerSettings

StartRedis = Callable[[], "subprocess.Popen[str]"]


class ShiftedClock:
    """The real clock, moved by a test; a sleep lasts a millisecond."""

    def __init__(self) -> None:
        self._clock, self.offset = SystemClock(), 0.0

    def monotonic(self) -> float:
        return self._clock.monotonic() + self.offset

    def wall(self) -> float:
        return self._clock.wall() + self.offset

    async def sleep(self, seconds: float) -> None:
        del seconds
        await self._clock.sleep(0.001)


class World:
    def __init__(self, url: str = "", *, speaks: bool = True, stored: int = 20_000) -> None:
        self.clock, self.metrics = ShiftedClock(), Metrics()
        self.registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        found = (DiscoveredEndpoint("e1", "e1", "e1:1", {}, "vllm"),)
        config = InferencePool(name=POOL, hash="h1")
        self.registry.discover({POOL: DiscoveredPool(config, found)})
        self.digests = PoolDigests(self.registry, lambda _: 0, digest_limits(DatalayerSettings()))
        self.part = PoolHistory(
            url,
            self.clock,
            self.registry,
            self.digests,
            self.metrics,
            in_flight=lambda _: 3,
            speaks=lambda _: speaks,
            interval_s=5.0,
            stored=stored,
        )

    def moment(self, waiting: int) -> None:
        now = self.clock.monotonic()
        metrics = EndpointMetrics(waiting_requests=waiting, running_requests=1, read_at=now)
        self.registry.record_scrape("e1", Extraction(metrics, ()))
        self.digests.update(now)
        self.part.sample()

    def pass_by(self, seconds: int) -> None:
        for second in range(seconds):
            self.clock.offset += 1.0
            self.moment(0 if second < seconds / 2 else 10)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        task = asyncio.ensure_future(self.part.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def scarcities(self, *, limit: int = 1000) -> tuple[list[str], str]:
        points, source = await self.part.points(POOL, since=0.0, limit=limit)
        assert [point.at for point in points] == sorted(point.at for point in points)
        return [point.scarcity for point in points], source


async def test_a_point_each_interval_and_whenever_the_regime_changes() -> None:
    world = World()
    world.pass_by(20)
    told, source = await world.scarcities()
    assert source == "memory"
    assert set(told) == {"abundant", "saturated"}
    assert 4 <= len(told) <= 6
    points, _ = await world.part.points(POOL, since=0.0, limit=1000)
    (first,) = [
        later.at - earlier.at
        for earlier, later in pairwise(points)
        if (earlier.scarcity, later.scarcity) == ("abundant", "saturated")
    ]
    assert first < 5.0
    assert (points[0].in_flight, points[0].ready_endpoints) == (3, 1)
    assert "saturation" in points[0].reason


async def test_only_the_latest_points_since_a_time_are_told() -> None:
    world = World()
    world.pass_by(60)
    since = world.clock.wall() - 12.5
    points, _ = await world.part.points(POOL, since=since, limit=1000)
    assert points
    assert all(point.at >= since for point in points)
    last, _ = await world.part.points(POOL, since=0.0, limit=2)
    assert last == points[-2:]


async def test_the_memory_of_a_pool_is_bounded_and_goes_with_it() -> None:
    world = World()
    world.part.history.capacity = 10
    world.pass_by(200)
    assert len((await world.scarcities())[0]) == 10
    world.part.history.keep_only([])
    assert await world.scarcities() == ([], "memory")


async def test_another_replica_reads_the_history_from_redis(
    start_redis: StartRedis, free_port: int
) -> None:
    start_redis()
    world, other = (World(f"redis://127.0.0.1:{free_port}/0", speaks=one) for one in (True, False))
    async with world.running():
        world.pass_by(30)
        await until(lambda: not world.part._waiting)
        mine, _ = await world.part.points(POOL, since=0.0, limit=1000)
    async with other.running():
        theirs, source = await other.part.points(POOL, since=0.0, limit=1000)
    assert (theirs, source) == (mine, "redis")
    assert len(theirs) >= 6


async def test_the_stream_is_capped(start_redis: StartRedis, free_port: int) -> None:
    start_redis()
    world = World(f"redis://127.0.0.1:{free_port}/0", stored=100)
    async with world.running():
        for _ in range(600):
            world.clock.offset += 6.0
            world.moment(0)
        await until(lambda: not world.part._waiting)
        points, _ = await world.part.points(POOL, since=0.0, limit=20_000)
    assert 100 <= len(points) <= 300


async def test_without_redis_points_wait_within_a_bound_and_memory_answers(free_port: int) -> None:
    world = World(f"redis://127.0.0.1:{free_port}/0")
    for _ in range(QUEUE + 5):
        world.clock.offset += 6.0
        world.moment(0)
    assert len(world.part._waiting) == QUEUE
    dropped = world.metrics.registry.get_sample_value("pointsman_datalayer_redis_dropped_total")
    assert dropped == 5
    assert (await world.scarcities(limit=3))[1] == "memory"


async def test_what_waited_is_stored_when_redis_comes(
    start_redis: StartRedis, free_port: int
) -> None:
    world = World(f"redis://127.0.0.1:{free_port}/0")
    async with world.running():
        world.pass_by(30)
        await until(lambda: world.part._told_away)
        start_redis()
        await until(lambda: not world.part._waiting)
        assert (await world.scarcities())[1] == "redis"
