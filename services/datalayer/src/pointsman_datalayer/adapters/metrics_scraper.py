"""Asks the engines for their metrics, each at its own pace, and tells the registry."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from pointsman_common.clock import Clock
from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_metrics import extract, mapping_of
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.prometheus_text import read_samples
from pointsman_datalayer.core.scrape_schedule import ScrapeSchedule
from pointsman_datalayer.core.shards import Shards
from pointsman_datalayer.metrics import Metrics

log = get_logger("scraper")

TICK_S = 0.01
BUSY_FOR_S = 1.0
"""A pool counts as busy for this long after an engine reported work."""


class UnreachableError(Exception):
    """The engine could not be connected to, or did not answer in time."""


class NonsenseError(Exception):
    """The engine answered what is no exposition."""


class Fetcher(Protocol):
    async def fetch(self, url: str) -> bytes:
        """Raises UnreachableError or NonsenseError."""
        ...


@dataclass(slots=True)
class HttpFetcher:
    """Over kept-alive connections; an answer over `max_bytes` is not read to its end."""

    session: aiohttp.ClientSession
    timeout_s: float
    max_bytes: int

    async def fetch(self, url: str) -> bytes:
        try:
            async with asyncio.timeout(self.timeout_s), self.session.get(url) as response:
                if response.status != 200:
                    raise NonsenseError(f"HTTP {response.status}")
                chunks: list[bytes] = []
                size = 0
                async for chunk in response.content.iter_any():
                    size += len(chunk)
                    if size > self.max_bytes:
                        raise NonsenseError(f"more than {self.max_bytes} bytes")
                    chunks.append(chunk)
                return b"".join(chunks)
        except TimeoutError as error:
            raise UnreachableError(f"no answer within {self.timeout_s:g} s") from error
        except aiohttp.ClientConnectorError as error:
            code = error.os_error.errno
            why = os.strerror(code).lower() if code else "connection failed"
            raise UnreachableError(why) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise UnreachableError("connection lost") from error
        except aiohttp.ClientError as error:
            raise NonsenseError(f"no HTTP answer: {type(error).__name__}") from error
        except ValueError as error:  # an address that makes no URL
            raise UnreachableError("not an address") from error


@asynccontextmanager
async def open_http_fetcher(timeout_s: float, max_bytes: int) -> AsyncGenerator[HttpFetcher]:
    # Each endpoint has one scrape at a time, which bounds the connections. No limit for a host:
    # one endpoint of a host that hangs must not hold up the others.
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=30.0)
    # Compression would save nothing within a cluster and cost both ends their time.
    headers = {"Accept": "text/plain", "Accept-Encoding": "identity"}
    async with aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # one deadline, in `fetch`
    ) as session:
        yield HttpFetcher(session, timeout_s, max_bytes)


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
        in_flight: Callable[[str], int],
        path: str,
        shards: Shards | None = None,
    ) -> None:
        self._clock, self._registry, self._schedule = clock, registry, schedule
        self._metrics, self._open_fetcher = metrics, open_fetcher
        self._in_flight, self._path = in_flight, path
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
                for uid in self._schedule.start_due(now):
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
        self._schedule.follow(self._endpoints.keys(), now)
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
        self._metrics.scrapes.labels(outcome).inc()
        self._metrics.scrape_seconds.observe(now - started)

    async def _read(self, fetcher: Fetcher, endpoint: DiscoveredEndpoint) -> str:
        uid, mapping = endpoint.uid, mapping_of(endpoint.engine)
        try:
            url = endpoint.metrics_url or f"http://{endpoint.address}{self._path}"
            body = await fetcher.fetch(url)
        except UnreachableError as error:
            self._metrics.scrape_failed()
            self._registry.record_unreachable(uid, str(error), self._clock.monotonic())
            return "unreachable"
        except NonsenseError as error:
            self._metrics.scrape_failed()
            self._registry.record_nonsense(uid, str(error))
            return "nonsense"
        now = self._clock.monotonic()
        extraction = extract(mapping, read_samples(body, mapping.wanted()), now)
        if extraction.missing:
            self._metrics.extract_failed()
        if not extraction.usable:
            self._registry.record_nonsense(uid, f"none of the metrics of {endpoint.engine}")
            return "nonsense"
        self._registry.record_scrape(uid, extraction)
        if _has_work(extraction.metrics):
            for pool in self._registry.pools_of(uid):
                self._working_until[pool] = now + BUSY_FOR_S
        return "read"


def _has_work(metrics: EndpointMetrics) -> bool:
    return bool(metrics.waiting_requests or metrics.running_requests)
