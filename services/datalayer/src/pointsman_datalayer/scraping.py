"""The composition root's part that reads endpoints: the scraper, and the further sources."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random

from pointsman_common.clock import Clock
from pointsman_datalayer.adapters.http_fetcher import open_http_fetcher
from pointsman_datalayer.adapters.installed_plugins import (
    EXTRACTORS_GROUP,
    SOURCES_GROUP,
    with_installed,
)
from pointsman_datalayer.adapters.metrics_scraper import MetricsScraper
from pointsman_datalayer.adapters.source_poller import SourcePoller
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.fetching import Fetcher
from pointsman_datalayer.core.scrape_schedule import ScrapeIntervals, ScrapeSchedule
from pointsman_datalayer.core.shards import Shards
from pointsman_datalayer.metrics import Metrics
from pointsman_datalayer.plugins.catalogue import EXTRACTORS, SOURCES
from pointsman_datalayer.plugins.data_layer import build_data_layer
from pointsman_datalayer.settings import DatalayerSettings


@dataclass(frozen=True, slots=True)
class Scraping:
    scraper: MetricsScraper
    pollers: tuple[SourcePoller, ...]


def build_scraping(
    settings: DatalayerSettings,
    clock: Clock,
    registry: EndpointRegistry,
    metrics: Metrics,
    *,
    shards: Shards,
    in_flight: Callable[[str], int],
) -> Scraping:
    """Build what the settings name, of our own plugins and those of installed packages.

    Raises:
        SettingsError: a source or extractor that cannot be.
    """
    data_layer = build_data_layer(
        settings.data_sources,
        settings.scrape_path,
        with_installed(SOURCES, SOURCES_GROUP),
        with_installed(EXTRACTORS, EXTRACTORS_GROUP),
    )

    def open_fetcher() -> AbstractAsyncContextManager[Fetcher]:
        return open_http_fetcher(
            settings.scrape_timeout_s, settings.scrape_max_bytes, data_layer.tls
        )

    intervals = ScrapeIntervals(settings.scrape_interval_s, settings.scrape_idle_interval_s)
    scraper = MetricsScraper(
        clock,
        registry,
        ScrapeSchedule(intervals, Random(), most_per_s=settings.scrapes_per_s),
        metrics,
        open_fetcher=open_fetcher,
        source=data_layer.metrics,
        core=data_layer.core,
        in_flight=in_flight,
        shards=shards,
    )
    pollers = tuple(
        SourcePoller(
            clock,
            registry,
            metrics,
            source,
            open_fetcher=open_fetcher,
            timeout_s=settings.scrape_timeout_s,
            rng=Random(),
            shards=shards,
        )
        for source in data_layer.others
    )
    return Scraping(scraper, pollers)
