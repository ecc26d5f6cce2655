"""Further sources under a virtual clock."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

import pytest

from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_datalayer.adapters.source_poller import SourcePoller
from pointsman_datalayer.core.data_source import NamedExtractor, PolledSource
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_metrics import Extraction
from pointsman_datalayer.core.fetching import Fetcher, NonsenseError, TlsFiles, UnreachableError
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.metrics import Metrics

POOL = "default/llama"


class Source:
    """Answers by endpoint; an exception is raised, `None` hangs."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Exception | None] = {}
        self.asked: list[str] = []

    async def read(self, endpoint: DiscoveredEndpoint, http: Fetcher) -> bytes:
        self.asked.append(endpoint.uid)
        answer = self.answers.get(endpoint.uid, b"1.5")
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, bytes)
        return answer


class Number:
    def extract(self, endpoint: DiscoveredEndpoint, body: bytes) -> dict[str, float]:
        return {"Number": float(body)}


class NoFetcher(Fetcher):
    async def fetch(self, url: str, tls: TlsFiles | None = None) -> bytes:
        raise UnreachableError(url)


@asynccontextmanager
async def no_fetcher() -> AsyncGenerator[Fetcher]:
    yield NoFetcher()


class World:
    def __init__(self, *uids: str) -> None:
        self.clock, self.metrics, self.source = VirtualClock(), Metrics(), Source()
        self.registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        self.follow(*uids)
        self.poller = SourcePoller(
            self.clock,
            self.registry,
            self.metrics,
            PolledSource(
                "my-source", "my-source", self.source, (NamedExtractor("number", Number()),), 2.0
            ),
            open_fetcher=no_fetcher,
            timeout_s=0.05,
            rng=Random(1),
        )

    def follow(self, *uids: str) -> None:
        found = tuple(DiscoveredEndpoint(uid, uid, f"{uid}:1", {}, "vllm") for uid in uids)
        self.registry.discover({POOL: DiscoveredPool(InferencePool(name=POOL), found)})

    async def run(self, seconds: float) -> None:
        task = asyncio.ensure_future(self.poller.run())
        await self.clock.advance(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def attributes(self) -> dict[str, dict[str, float]]:
        return {
            endpoint.uid: dict(endpoint.metrics.attributes)
            for endpoint in self.registry.endpoints(POOL)
        }

    def problems(self) -> float | None:
        labels = {"source": "my-source"}
        name = "pointsman_datalayer_source_problems"
        return self.metrics.registry.get_sample_value(name, labels)

    def errors(self) -> float:
        labels = {"source_type": "my-source"}
        name = "llm_d_epp_datalayer_poll_errors_total"
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_attributes_of_every_endpoint_are_read_at_their_pace() -> None:
    world = World("a", "b")
    world.source.answers["b"] = b"7"
    await world.run(10.0)
    assert world.attributes() == {"a": {"Number": 1.5}, "b": {"Number": 7.0}}
    assert 8 <= len(world.source.asked) <= 14


async def test_attributes_stay_beside_the_engines_own_whenever_those_are_read() -> None:
    world = World("a")
    await world.run(3.0)
    own = EndpointMetrics(waiting_requests=3, read_at=1.0, attributes={"Own": 2.0, "Number": 0.0})
    world.registry.record_scrape("a", Extraction(own, ()))
    (endpoint,) = world.registry.endpoints(POOL)
    assert endpoint.metrics.waiting_requests == 3
    assert endpoint.metrics.attributes == {"Own": 2.0, "Number": 1.5}


@pytest.mark.parametrize(
    "failure",
    [UnreachableError("refused"), NonsenseError("HTTP 500"), RuntimeError("a bug"), b"no number"],
)
async def test_a_failing_source_is_believed_for_three_intervals_and_then_unknown(
    failure: Exception | bytes,
) -> None:
    world = World("a", "b")
    await world.run(3.0)
    world.source.answers["a"] = failure
    await world.run(3.0)
    assert world.attributes()["a"] == {"Number": 1.5}
    await world.run(10.0)
    assert world.attributes() == {"a": {}, "b": {"Number": 1.5}}
    assert world.problems() == 1
    assert isinstance(failure, bytes) or world.errors() >= 3
    (endpoint, _) = world.registry.endpoints(POOL)
    assert endpoint.not_ready_reason == "not scraped yet", "whether it is ready is not its matter"
    world.source.answers["a"] = b"2"
    await world.run(5.0)
    assert world.attributes()["a"] == {"Number": 2.0}
    assert world.problems() == 0


async def test_a_source_that_hangs_is_given_up_and_delays_no_other() -> None:
    world = World("a", "b")
    world.source.answers["a"] = None
    task = asyncio.ensure_future(world.poller.run())
    await world.clock.advance(2.5)
    await asyncio.sleep(0.3)  # the deadline of a read is real time
    await world.clock.advance(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert world.attributes()["b"] == {"Number": 1.5}
    assert world.errors() == 1


async def test_endpoints_that_come_are_read_and_those_that_go_are_forgotten() -> None:
    world = World("a")
    await world.run(3.0)
    world.follow("b")
    world.source.asked.clear()
    await world.run(3.0)
    assert set(world.source.asked) == {"b"}
    assert world.attributes() == {"b": {"Number": 1.5}}
