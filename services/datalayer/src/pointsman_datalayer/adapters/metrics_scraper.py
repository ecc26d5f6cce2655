"""Asks the engines for their metrics, each at its own pace, and tells the registry."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from pointsman_common.clock import Clock
from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.core.data_source import PolledSource, extract_all
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.fetching import Fetcher, NonsenseError, UnreachableError
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.scrape_schedule import ScrapeSchedule
from pointsman_datalayer.core.shards import Shards
from pointsman_datalayer.metrics import Metrics
from pointsman_datalayer.plugins.catalogue import CORE_METRICS
from pointsman_datalayer.plugins.extractors.core_metrics_extractor import CoreMetricsExtractor

log = get_logger("scraper")

TICK_S = 0.01
OUTCOMES = ("read", "nonsense", "unreachable")
BUSY_FOR_S = 1.0
"""A pool counts as busy for this long after an engine reported work."""

FetcherFactory = Callable[[], AbstractAsyncContextManager[Fetcher]]


class MetricsScraper:
    """A part of a service. One scrape of an endpoint at a time; a slow one delays no other."""

    def __init__(
        self,
        clock: Clock,
        registry: EndpointRegistry,
        schedule: ScrapeSchedule,
        metrics: Metrics,
        *,
        open_fetcher: FetcherFactory,
        source: PolledSource,
        core: CoreMetricsExtractor,
        in_flight: Callable[[str], int],
        shards: Shards | None = None,
    ) -> None:
        self._clock, self._registry, self._schedule = clock, registry, schedule
        self._metrics, self._open_fetcher = metrics, open_fetcher
        self._source, self._core, self._in_flight = source, core, in_flight
        self._outcomes = {name: metrics.scrapes.labels(name) for name in OUTCOMES}
        self._membership_changed = True
        self._endpoints: Mapping[str, DiscoveredEndpoint] = {}
        self._working_until: dict[str, float] = {}
        self._busy: set[str] = set()
        self._owns = shards.owns if shards else lambda _: True
        registry.on_membership_change(self._on_membership_change)
        if shards is not None:
            shards.on_change(self._on_membership_change)

    async def run(self) -> None:
        async with self._open_fetcher() as fetcher, asyncio.TaskGroup() as scrapes:
            while True:
                now = self._clock.monotonic()
                if self._membership_changed:
                    self._membership_changed = False
                    self._follow(now)
                self._notice_work(now)
                for uid in self._schedule.start_due(now, TICK_S):
                    scrapes.create_task(self._scrape(fetcher, uid))
                await self._clock.sleep(TICK_S)

    def hasten(self, uid: str) -> None:
        """Look at an endpoint soon: something was seen of it, such as a failed request."""
        self._schedule.hasten([uid], self._clock.monotonic())

    def _on_membership_change(self) -> None:
        self._membership_changed = True

    def _follow(self, now: float) -> None:
        self._endpoints = {
            uid: item
            for uid, item in self._registry.addresses().items()
            if not item.problem and self._owns(uid)
        }
        self._schedule.follow(sorted(self._endpoints, key=self._registry.read_at), now)
        for pool in self._working_until.keys() - self._registry.pools().keys():
            del self._working_until[pool]

    def _notice_work(self, now: float) -> None:
        busy = {pool for pool in self._registry.pools() if self._is_busy(pool, now)}
        for pool in busy - self._busy:
            self._schedule.hasten(list(self._registry.pools()[pool].discovered), now)
        self._busy = busy

    def _is_busy(self, pool: str, now: float) -> bool:
        return self._in_flight(pool) > 0 or self._working_until.get(pool, now) > now

    async def _scrape(self, fetcher: Fetcher, uid: str) -> None:
        endpoint, started = self._endpoints.get(uid), self._clock.monotonic()
        outcome = "unreachable"
        try:
            if endpoint is not None:
                outcome = await self._read(fetcher, endpoint)
        finally:
            now = self._clock.monotonic()
            pools = self._registry.pools_of(uid)
            self._schedule.finish(uid, now, busy=any(pool in self._busy for pool in pools))
        self._outcomes[outcome].inc()
        self._metrics.scrape_seconds.observe(now - started)

    async def _read(self, fetcher: Fetcher, endpoint: DiscoveredEndpoint) -> str:
        uid, source = endpoint.uid, self._source
        try:
            body = await source.source.read(endpoint, fetcher)
        except UnreachableError as error:
            self._metrics.source_failed(source.type_name)
            self._registry.record_unreachable(uid, str(error), self._clock.monotonic())
            return "unreachable"
        except NonsenseError as error:
            self._metrics.source_failed(source.type_name)
            self._registry.record_nonsense(uid, str(error))
            return "nonsense"
        now = self._clock.monotonic()
        extraction = self._core.read(endpoint, body, now)
        if extraction.missing:
            self._metrics.extract_failed(source.type_name, CORE_METRICS)
        if not extraction.usable:
            self._registry.record_nonsense(uid, f"none of the metrics of {endpoint.engine}")
            return "nonsense"
        self._registry.record_scrape(uid, extraction)
        if source.extractors:
            found, problems = extract_all(source, endpoint, body)
            for extractor in problems:
                self._metrics.extract_failed(source.type_name, extractor)
            self._registry.record_attributes(uid, source.name, found)
        if _has_work(extraction.metrics):
            for pool in self._registry.pools_of(uid):
                self._working_until[pool] = now + BUSY_FOR_S
        return "read"


def _has_work(metrics: EndpointMetrics) -> bool:
    return bool(metrics.waiting_requests or metrics.running_requests)
