"""Scraping over a fake transport under a virtual clock."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from pointsman_common.endpoint import Endpoint
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_datalayer.adapters.metrics_scraper import MetricsScraper
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.fetching import Fetcher, NonsenseError, TlsFiles, UnreachableError
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.scrape_schedule import ScrapeIntervals, ScrapeSchedule
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.metrics import Metrics
from pointsman_datalayer.plugins.data_layer import (
    ExtractorSettings,
    SourceSettings,
    build_data_layer,
)

POOL = "default/llama"
Answer = Callable[[], bytes | Exception | Awaitable[bytes]]


def exposition(*, waiting: int | None = 0, running: int = 0, kv: float = 0.25) -> bytes:
    lines = [f"vllm:num_requests_running {running}", f"vllm:kv_cache_usage_perc {kv}"]
    if waiting is not None:
        lines.append(f"vllm:num_requests_waiting {waiting}")
    return "\n".join(lines).encode()


class Engines:
    """A fetcher whose answers are set by address."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []

    async def fetch(self, url: str, tls: TlsFiles | None = None) -> bytes:
        del tls
        self.asked.append(url)
        answer = self.answers[url]()
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, bytes) else await answer

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Fetcher]:
        yield self


class World:
    def __init__(
        self,
        *addresses: str,
        labels: dict[str, str] | None = None,
        sources: tuple[SourceSettings, ...] = (),
    ) -> None:
        self.clock, self.metrics, self.engines = VirtualClock(), Metrics(), Engines()
        self.registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        self.leases = 0
        engine = (labels or {}).get("llm-d.ai/engine-type", "vllm")
        endpoints = tuple(
            DiscoveredEndpoint(name, name, f"{name}:1", labels or {}, engine) for name in addresses
        )
        for name in addresses:
            self.answer(name, exposition())
        self.registry.discover({POOL: DiscoveredPool(InferencePool(name=POOL), endpoints)})
        data_layer = build_data_layer(sources, "/metrics")
        self.scraper = MetricsScraper(
            self.clock,
            self.registry,
            ScrapeSchedule(ScrapeIntervals(busy_s=0.05, idle_s=0.5), Random(1)),
            self.metrics,
            open_fetcher=self.engines.open,
            source=data_layer.metrics,
            core=data_layer.core,
            in_flight=lambda _: self.leases,
        )

    def answer(self, name: str, answer: bytes | Exception) -> None:
        self.engines.answers[f"http://{name}:1/metrics"] = lambda: answer

    async def run(self, seconds: float) -> None:
        task = asyncio.ensure_future(self.scraper.run())
        await self.clock.advance(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def endpoint(self, index: int = 0) -> Endpoint:
        return list(self.registry.endpoints(POOL))[index]

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


async def test_every_endpoint_is_read_and_becomes_ready() -> None:
    world = World("a", "b")
    world.answer("b", exposition(waiting=4, running=2, kv=0.5))
    await world.run(0.1)
    metrics = world.endpoint(1).metrics
    assert (metrics.waiting_requests, metrics.running_requests) == (4, 2)
    assert metrics.kv_cache_utilization == 0.5
    assert world.endpoint(0).ready
    assert world.endpoint(1).ready


async def test_an_idle_pool_is_asked_seldom_and_a_busy_one_often() -> None:
    world = World("a")
    await world.run(5.0)
    idle = len(world.engines.asked)
    world.leases = 1
    await world.run(5.0)
    assert 8 <= idle <= 14
    assert len(world.engines.asked) - idle > 60


async def test_work_that_the_engine_reports_makes_the_pool_busy() -> None:
    world = World("a")
    world.answer("a", exposition(running=1))
    await world.run(5.0)
    assert len(world.engines.asked) > 60


async def test_an_engine_that_hangs_delays_no_other() -> None:
    world = World("a", "b")
    hang = asyncio.Event()

    async def wait() -> bytes:
        await hang.wait()
        return b""

    world.engines.answers["http://a:1/metrics"] = wait
    world.leases = 1
    await world.run(2.0)
    asked = [url for url in world.engines.asked if url.startswith("http://b")]
    assert len(asked) > 20
    assert not world.endpoint(0).ready
    assert world.endpoint(1).ready


async def test_an_unreachable_engine_is_dropped_and_comes_back_with_its_next_answer() -> None:
    world = World("a")
    world.leases = 1
    await world.run(0.1)
    world.answer("a", UnreachableError("connection refused"))
    await world.run(0.5)
    assert (world.endpoint().ready, world.endpoint().not_ready_reason) == (
        False,
        "connection refused",
    )
    world.answer("a", exposition())
    await world.run(0.2)
    assert world.endpoint().ready
    errors = world.sample(
        "llm_d_epp_datalayer_poll_errors_total", source_type="metrics-data-source"
    )
    assert errors is not None
    assert errors >= 3


@pytest.mark.parametrize("answer", [NonsenseError("HTTP 500"), b"<html>", b"other 1\n", b"\xff"])
async def test_nonsense_leaves_the_last_metrics_to_grow_old(answer: bytes | Exception) -> None:
    world = World("a")
    world.leases = 1
    world.answer("a", exposition(waiting=3))
    await world.run(0.1)
    read_at = world.endpoint().metrics.read_at
    world.answer("a", answer)
    await world.run(5.0)
    endpoint = world.endpoint()
    assert endpoint.ready
    assert endpoint.metrics.waiting_requests == 3
    assert read_at is not None
    assert endpoint.metrics.age_s(world.clock.monotonic()) >= 4.9
    assert world.registry.health("a").problem


async def test_a_missing_family_is_an_extract_error_and_the_rest_is_read() -> None:
    world = World("a")
    world.answer("a", exposition(waiting=None, kv=0.75))
    await world.run(0.1)
    metrics = world.endpoint().metrics
    assert (metrics.waiting_requests, metrics.kv_cache_utilization) == (None, 0.75)
    errors = world.sample(
        "llm_d_epp_datalayer_extract_errors_total",
        source_type="metrics-data-source",
        extractor_type="core-metrics-extractor",
    )
    assert errors is not None
    assert errors >= 1
    assert world.registry.health("a").problem == "lacks waiting_requests"


async def test_the_engine_is_read_by_its_label() -> None:
    world = World("a", labels={"llm-d.ai/engine-type": "sglang"})
    world.answer(
        "a", b"sglang:num_queue_reqs 3\nsglang:num_running_reqs 1\nsglang:token_usage 0.5\n"
    )
    await world.run(0.1)
    assert world.endpoint().metrics.waiting_requests == 3


async def test_metrics_may_be_elsewhere_than_the_endpoint() -> None:
    world = World()
    url = "http://sidecar:9/m"
    world.engines.answers[url] = lambda: exposition(waiting=9)
    endpoint = DiscoveredEndpoint("a", "a", "a:1", {}, "vllm", metrics_url=url)
    world.registry.discover({POOL: DiscoveredPool(InferencePool(name=POOL), (endpoint,))})
    await world.run(0.1)
    assert set(world.engines.asked) == {url}
    assert world.endpoint().metrics.waiting_requests == 9


async def test_a_failed_request_brings_the_next_look_forward() -> None:
    world = World("a")
    await world.run(0.2)
    before = len(world.engines.asked)
    world.scraper.hasten("a")
    await world.run(0.06)
    assert len(world.engines.asked) == before + 1


async def test_further_extractors_read_the_metrics_page_too() -> None:
    models = ExtractorSettings(type="models-data-extractor")
    source = SourceSettings(type="metrics-data-source", extractors=(models,))
    world = World("a", sources=(source,))
    await world.run(0.1)
    assert world.endpoint().metrics.waiting_requests == 0
    errors = world.sample(
        "llm_d_epp_datalayer_extract_errors_total",
        source_type="metrics-data-source",
        extractor_type="models-data-extractor",
    )
    assert errors is not None, "a page of metrics is no list of models"
