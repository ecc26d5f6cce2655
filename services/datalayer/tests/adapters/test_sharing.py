"""Replicas that find each other in Redis and tell each other what they have read."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from support.polling import await_until

from pointsman_common import subjects
from pointsman_common.clock import SystemClock
from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_datalayer.adapters.replica_leases import ReplicaLeases
from pointsman_datalayer.adapters.share_exchange import ShareExchange
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_metrics import Extraction
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.shards import Shards
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.metrics import Metrics

POOL = "default/llama"
UIDS = [f"uid-{number}" for number in range(100)]


@dataclass
class Replica:
    name: str
    url: str
    ready: bool = True
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.shards = Shards(self.name, decided=False)
        self.leases = ReplicaLeases(
            self.url, SystemClock(), self.shards, self.metrics, ready=lambda: self.ready
        )

    def share(self) -> set[str]:
        return {uid for uid in UIDS if self.shards.owns(uid)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Replica"]:
        task = asyncio.ensure_future(self.leases.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(what: str, check: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    async def checked() -> bool:
        return check()

    await await_until(what, checked, timeout_s=timeout_s)


def are_split(*replicas: Replica) -> bool:
    shares = [replica.share() for replica in replicas]
    return sum(map(len, shares)) == len(UIDS) and set().union(*shares) == set(UIDS) and all(shares)


async def test_two_replicas_split_the_endpoints_and_one_that_dies_is_replaced(
    start_redis: Callable[[], "subprocess.Popen[str]"], free_port: int
) -> None:
    start_redis()
    url = f"redis://127.0.0.1:{free_port}/0"
    first, second = Replica("a", url), Replica("b", url)
    async with first.running():
        async with second.running():
            await until("they share", lambda: are_split(first, second))
            speakers = [replica for replica in (first, second) if replica.shards.speaks(POOL)]
            assert len(speakers) == 1
        # Nothing was given up: the lease has to run out, as after a crash.
        began = asyncio.get_running_loop().time()
        await until("taken over", lambda: first.share() == set(UIDS))
        assert asyncio.get_running_loop().time() - began < 5.0
        assert first.shards.speaks(POOL)


async def test_one_that_leaves_hands_its_share_over_at_once(
    start_redis: Callable[[], "subprocess.Popen[str]"], free_port: int
) -> None:
    start_redis()
    url = f"redis://127.0.0.1:{free_port}/0"
    first, second = Replica("a", url), Replica("b", url)
    async with first.running(), second.running():
        await until("they share", lambda: are_split(first, second))
        await second.leases.drain(1.0)
        await until("handed over", lambda: first.share() == set(UIDS) and not second.share())
        assert not second.shards.speaks(POOL)


async def test_while_redis_is_away_each_goes_on_with_its_last_share(
    start_redis: Callable[[], "subprocess.Popen[str]"], free_port: int
) -> None:
    server = start_redis()
    url = f"redis://127.0.0.1:{free_port}/0"
    first, second = Replica("a", url), Replica("b", url)
    async with first.running(), second.running():
        await until("they share", lambda: are_split(first, second))
        shares = first.share(), second.share()
        server.terminate()
        server.wait(10)
        await asyncio.sleep(2.0)
        assert (first.share(), second.share()) == shares
        start_redis()  # with an empty memory
        await until("the same again", lambda: (first.share(), second.share()) == shares)


async def test_without_redis_a_replica_reads_and_speaks_for_everything_after_a_while(
    free_port: int,
) -> None:
    replica = Replica("a", f"redis://127.0.0.1:{free_port}/0")
    async with replica.running():
        assert replica.share() == set(UIDS) and not replica.shards.speaks(POOL)
        await until("it speaks", lambda: replica.shards.speaks(POOL))


async def test_one_that_is_not_ready_has_no_share(
    start_redis: Callable[[], "subprocess.Popen[str]"], free_port: int
) -> None:
    start_redis()
    url = f"redis://127.0.0.1:{free_port}/0"
    first, second = Replica("a", url), Replica("b", url, ready=False)
    async with first.running(), second.running():
        await until("it knows the other", lambda: not second.share())
        assert first.share() == set(UIDS)


class OneWay:
    """A way to Redis that carries commands, and for as long as it is `deaf` no lists of who is
    there: as for a process so busy that its deadlines pass before it gets to them."""

    def __init__(self, redis_port: int) -> None:
        self.deaf, self._redis_port = False, redis_port

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", self._redis_port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    is_list = sink is writer and data.startswith(b"*")
                    if not (self.deaf and is_list):
                        sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, redis_writer), copy(redis_reader, writer))


async def test_one_that_hears_no_answers_gives_its_share_up(
    start_redis: Callable[[], "subprocess.Popen[str]"], free_port: int
) -> None:
    start_redis()
    way = OneWay(free_port)
    proxy = await asyncio.start_server(way.carry, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    first = Replica("a", f"redis://127.0.0.1:{free_port}/0")
    second = Replica("b", f"redis://127.0.0.1:{port}/0")
    async with first.running(), second.running():
        await until("they share", lambda: are_split(first, second))
        way.deaf = True
        await until("taken over", lambda: first.share() == set(UIDS))
        for _ in range(15):  # and it stays so, though its commands arrive
            await asyncio.sleep(0.1)
            assert first.share() == set(UIDS)
        way.deaf = False
        await until("they share again", lambda: are_split(first, second))
    proxy.close()


class Peer:
    """One side of an exchange over a bus that both share."""

    def __init__(self, name: str, bus: InMemoryBus, clock: VirtualClock) -> None:
        self.registry = EndpointRegistry(ReadinessLimits(3, 3.0))
        endpoints = tuple(
            DiscoveredEndpoint(uid, uid, f"10.0.0.{number}:8000", {}, "vllm")
            for number, uid in enumerate(UIDS[:10])
        )
        self.registry.discover({POOL: DiscoveredPool(InferencePool(name=POOL), endpoints)})
        self.shards = Shards(name)
        self.shards.heard({"a": 9.0, "b": 9.0})
        self.exchange = ShareExchange(
            bus, clock, EnvelopeStamp(name, clock), self.registry, self.shards, interval_s=0.025
        )
        bus.subscribe(subjects.pool_share(subjects.ALL), self.exchange.receive)

    def read_own(self, waiting: int, now: float) -> None:
        """Read every endpoint of the own share."""
        for uid in UIDS[:10]:
            if self.shards.owns(uid):
                metrics = EndpointMetrics(waiting_requests=waiting, read_at=now)
                self.registry.record_scrape(uid, Extraction(metrics, ()))

    def waiting(self) -> list[int | None]:
        return [item.metrics.waiting_requests for item in self.registry.endpoints(POOL)]


def two_peers() -> tuple[Peer, Peer, VirtualClock]:
    bus, clock = InMemoryBus(), VirtualClock()
    return Peer("a", bus, clock), Peer("b", bus, clock), clock


async def test_each_replica_knows_what_all_have_read() -> None:
    one, other, clock = two_peers()
    one.read_own(3, clock.monotonic())
    other.read_own(3, clock.monotonic())
    one.exchange.publish()
    other.exchange.publish()
    assert one.waiting() == other.waiting() == [3] * 10
    assert all(item.ready for item in one.registry.endpoints(POOL))


async def test_an_endpoint_that_its_reader_cannot_reach_is_not_ready_everywhere() -> None:
    one, other, clock = two_peers()
    one.read_own(0, clock.monotonic())
    one.exchange.publish()
    uid = next(uid for uid in UIDS if one.shards.owns(uid))
    for _ in range(3):
        one.registry.record_unreachable(uid, "connection refused", clock.monotonic())
    one.exchange.publish()
    (told,) = [item for item in other.registry.endpoints(POOL) if item.uid == uid]
    assert (told.ready, told.not_ready_reason) == (False, "connection refused")


async def test_what_is_older_than_what_is_known_changes_nothing() -> None:
    one, other, clock = two_peers()
    uid = next(uid for uid in UIDS if one.shards.owns(uid))
    one.read_own(1, clock.monotonic())
    newer = EndpointMetrics(waiting_requests=9, read_at=clock.monotonic() + 5.0)
    other.registry.record_scrape(uid, Extraction(newer, ()))
    one.exchange.publish()
    (known,) = [item for item in other.registry.endpoints(POOL) if item.uid == uid]
    assert known.metrics.waiting_requests == 9
