"""Asks the further sources of the data layer for each endpoint, and tells the registry."""

import asyncio
from collections.abc import Mapping
from random import Random

from pointsman_common.clock import Clock
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.adapters.metrics_scraper import FetcherFactory
from pointsman_datalayer.core.data_source import PolledSource, extract_all
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.fetching import Fetcher, NonsenseError, UnreachableError
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.scrape_schedule import ScrapeIntervals, ScrapeSchedule
from pointsman_datalayer.core.shards import Shards
from pointsman_datalayer.metrics import Metrics

log = get_logger("sources")

TICK_S = 0.05
MOST_PER_S = 500.0
"""Reads that one source begins in a second."""
BELIEVED_INTERVALS = 3.0
"""What a source said counts for so many of its intervals; then it is unknown."""


class SourcePoller:
    """A part of a service: one source. A failing one is marked in its metric, and leaves whether
    the endpoint may be picked to the engine's metrics."""

    def __init__(
        self,
        clock: Clock,
        registry: EndpointRegistry,
        metrics: Metrics,
        polled: PolledSource,
        *,
        open_fetcher: FetcherFactory,
        timeout_s: float,
        rng: Random,
        shards: Shards | None = None,
    ) -> None:
        self._clock, self._registry, self._metrics = clock, registry, metrics
        self._polled, self._open_fetcher = polled, open_fetcher
        self._owns = shards.owns if shards else lambda _: True
        self._timeout_s = timeout_s
        intervals = ScrapeIntervals(polled.interval_s, polled.interval_s)
        self._schedule = ScrapeSchedule(intervals, rng, most_per_s=MOST_PER_S)
        self._endpoints: Mapping[str, DiscoveredEndpoint] = {}
        self._read_at: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._membership_changed = True
        registry.on_membership_change(self._on_membership_change)
        if shards is not None:
            shards.on_change(self._on_membership_change)

    async def run(self) -> None:
        async with self._open_fetcher() as fetcher, asyncio.TaskGroup() as reads:
            while True:
                now = self._clock.monotonic()
                if self._membership_changed:
                    self._membership_changed = False
                    self._follow(now)
                for uid in self._schedule.start_due(now, TICK_S):
                    reads.create_task(self._poll(fetcher, uid))
                await self._clock.sleep(TICK_S)

    def _on_membership_change(self) -> None:
        self._membership_changed = True

    def _follow(self, now: float) -> None:
        self._endpoints = {
            uid: item
            for uid, item in self._registry.addresses().items()
            if not item.problem and self._owns(uid)
        }
        self._schedule.follow(list(self._endpoints), now)
        for known in (self._read_at, self._problems):
            for uid in known.keys() - self._endpoints.keys():
                del known[uid]

    async def _poll(self, fetcher: Fetcher, uid: str) -> None:
        endpoint = self._endpoints.get(uid)
        try:
            if endpoint is not None:
                self._note(uid, await self._read(fetcher, endpoint))
        finally:
            self._schedule.finish(uid, self._clock.monotonic(), busy=True)

    async def _read(self, fetcher: Fetcher, endpoint: DiscoveredEndpoint) -> str:
        """Returns what was wrong; empty: nothing."""
        polled = self._polled
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await polled.source.read(endpoint, fetcher)
        except (UnreachableError, NonsenseError, TimeoutError) as error:
            self._metrics.source_failed(polled.type_name)
            return str(error) or f"no answer within {self._timeout_s:g} s"
        except Exception as error:
            # A plugin of others may fail in any way; it must not end the service.
            self._metrics.source_failed(polled.type_name)
            return f"{type(error).__name__}: {error}"
        found, problems = extract_all(polled, endpoint, body)
        for extractor in problems:
            self._metrics.extract_failed(polled.type_name, extractor)
        if found or not problems:
            self._read_at[endpoint.uid] = self._clock.monotonic()
            self._registry.record_attributes(endpoint.uid, polled.name, found)
        return "; ".join(f"{extractor}: {why}" for extractor, why in problems.items())

    def _note(self, uid: str, problem: str) -> None:
        if problem and problem != self._problems.get(uid):
            log.info("source-failed", source=self._polled.name, endpoint=uid, why=problem)
        if problem:
            self._problems[uid] = problem
        else:
            self._problems.pop(uid, None)
        self._metrics.source_problems.labels(self._polled.name).set(len(self._problems))
        if not problem:
            return
        believed_s = BELIEVED_INTERVALS * self._polled.interval_s
        if self._clock.monotonic() - self._read_at.get(uid, float("-inf")) > believed_s:
            self._registry.record_attributes(uid, self._polled.name, {})
