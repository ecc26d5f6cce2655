"""What scraping costs: `python tests/load/bench_scrape.py [--endpoints N --seconds S --whole]`.

One process scrapes N endpoints once a second, each with a page of 100 KB, from another process on
this machine. Figures: CPU time of the scraping process for a scrape, all in, and as a share of a
core; what reading the page and getting it come to by themselves; and how old the metrics of an
endpoint get. Budget: 1,000 endpoints at 1/3 core, p99 of the age 1.5 s.

`--whole` runs the datalayer as a service beside NATS, publishing what it reads.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `support`

from support.scrape_target import PAGE_BYTES, exposition, page_server
from support.scraped_pool import POOL, listed_endpoint, scraped_pool

from pointsman_common.clock import SystemClock
from pointsman_common.inference_pool import InferencePool
from pointsman_datalayer.adapters.http_fetcher import open_http_fetcher
from pointsman_datalayer.adapters.metrics_scraper import MetricsScraper
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_mappings import ENGINES
from pointsman_datalayer.core.engine_metrics import EngineReader
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.scrape_schedule import ScrapeIntervals, ScrapeSchedule
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.metrics import Metrics
from pointsman_datalayer.plugins.data_layer import build_data_layer
from pointsman_datalayer.settings import DatalayerSettings

SETTLE_S = 2.0
"""Connections are made in this time, and nothing is measured."""


async def scraping(address: str, endpoints: int, seconds: float) -> tuple[float, list[float]]:
    """CPU seconds for a scrape, and ages of every endpoint as sampled."""
    clock, metrics = SystemClock(), Metrics()
    registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
    found = tuple(
        DiscoveredEndpoint(
            f"e{n}",
            f"e{n}",
            f"{listed['address']}:8000",
            {},
            "vllm",
            metrics_url=str(listed["metricsUrl"]),
        )
        for n in range(endpoints)
        if (listed := listed_endpoint(address, n))
    )
    registry.discover({POOL: DiscoveredPool(InferencePool(name=POOL), found)})
    data_layer = build_data_layer((), "/metrics")
    scraper = MetricsScraper(
        clock,
        registry,
        ScrapeSchedule(
            ScrapeIntervals(busy_s=1.0, idle_s=1.0),
            Random(1),
            most_per_s=DatalayerSettings().scrapes_per_s,
        ),
        metrics,
        open_fetcher=lambda: open_http_fetcher(1.0, 8 << 20),
        source=data_layer.metrics,
        core=data_layer.core,
        in_flight=lambda _: 0,
    )
    running = asyncio.ensure_future(scraper.run())
    await asyncio.sleep(SETTLE_S)
    ages: list[float] = []
    before, cpu = _scrapes(metrics), time.process_time()
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        await asyncio.sleep(0.25)
        now = clock.monotonic()
        ages += [item.metrics.age_s(now) for item in registry.endpoints(POOL)]
    spent, done = time.process_time() - cpu, _scrapes(metrics) - before
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return spent / done, ages


def _scrapes(metrics: Metrics) -> float:
    labels = {"outcome": "read"}
    return metrics.registry.get_sample_value("pointsman_datalayer_scrapes_total", labels) or 0.0


async def getting(address: str, times: int) -> float:
    """CPU seconds to get one page and do nothing with it."""
    async with open_http_fetcher(1.0, 8 << 20) as fetcher:
        url = f"http://{address}/0/metrics"
        await fetcher.fetch(url)
        cpu = time.process_time()
        for _ in range(times):
            await fetcher.fetch(url)
        return (time.process_time() - cpu) / times


def reading(times: int) -> float:
    """CPU seconds to read one page that is there."""
    body, reader = exposition(PAGE_BYTES), EngineReader(ENGINES["vllm"])
    best = float("inf")
    for _ in range(times):
        cpu = time.process_time()
        for _ in range(20):
            reader.read(body, 0.0)
        best = min(best, (time.process_time() - cpu) / 20)
    return best


async def whole(address: str, endpoints: int, seconds: float) -> tuple[float, list[float]]:
    """Share of a core that the service takes, and the ages that a reader of the bus sees."""
    with tempfile.TemporaryDirectory() as folder:
        async with scraped_pool(Path(folder), address, endpoints, replicas=1) as scraped:
            await asyncio.sleep(SETTLE_S)
            cpu, began, ages = scraped.cpu_s(0), time.monotonic(), list[float]()
            while time.monotonic() < began + seconds:
                await asyncio.sleep(0.25)
                ages += scraped.ages_s()
            return (scraped.cpu_s(0) - cpu) / (time.monotonic() - began), ages


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _told(title: str, ages: list[float]) -> None:
    ages.sort()
    p50, p99 = (ages[int(len(ages) * share)] for share in (0.5, 0.99))
    _say(f"{title}: age p50 {p50:.2f} s, p99 {p99:.2f} s, worst {ages[-1]:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--whole", action="store_true", help="the service too, with NATS")
    options = parser.parse_args()
    _say(f"read a page of {PAGE_BYTES // 1000} KB: {reading(20) * 1e6:.0f} us")
    with page_server() as address:
        _say(f"get a page: {uvloop.run(getting(address, 1000)) * 1e6:.0f} us CPU")
        cost, ages = uvloop.run(scraping(address, options.endpoints, options.seconds))
        _say(
            f"a scrape, all in: {cost * 1e6:.0f} us CPU; {options.endpoints} endpoints each second "
            f"take {cost * options.endpoints:.2f} of a core"
        )
        _told("scraper", ages)
        if options.whole:
            share, ages = uvloop.run(whole(address, options.endpoints, options.seconds))
            _say(f"the whole service: {share:.2f} of a core")
            _told("on the bus", ages)


if __name__ == "__main__":
    main()
