"""From the settings to the sources and extractors that run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import PluginType, build_plugin
from pointsman_common.settings_loader import PositiveSeconds
from pointsman_datalayer.core.data_source import (
    DataSource,
    Extractor,
    NamedExtractor,
    PolledSource,
)
from pointsman_datalayer.core.fetching import TlsFiles
from pointsman_datalayer.plugins.catalogue import CORE_METRICS, EXTRACTORS, METRICS, SOURCES
from pointsman_datalayer.plugins.extractors.core_metrics_extractor import (
    CoreMetricsExtractor,
    Parameters,
)
from pointsman_datalayer.plugins.http_source import HttpParameters, HttpSource
from pointsman_datalayer.plugins.sources.metrics_data_source import MetricsDataSource

DEFAULT_INTERVAL_S = 5.0


class ExtractorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: str
    parameters: dict[str, Any] = {}


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One source, and what is made of what it brings."""

    type: str
    name: str = ""
    """Empty: its type."""
    parameters: dict[str, Any] = {}
    interval_s: PositiveSeconds | None = None
    """Between two reads of an endpoint. Not said: 5 s; the metrics have their own settings."""
    extractors: tuple[ExtractorSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class DataLayer:
    """The source of the engines' metrics, and all others."""

    metrics: PolledSource
    core: CoreMetricsExtractor
    """Reads what `metrics` brings; its other extractors read it too."""
    others: tuple[PolledSource, ...]
    tls: frozenset[TlsFiles]


def build_data_layer(
    entries: Sequence[SourceSettings],
    metrics_path: str,
    sources: Mapping[str, PluginType[DataSource]] = SOURCES,
    extractors: Mapping[str, PluginType[Extractor]] = EXTRACTORS,
) -> DataLayer:
    """Build what the settings name. Metrics are read whether they name them or not.

    Raises:
        SettingsError: a type that there is not, parameters that it refuses, two sources of one
            name or of the metrics.
    """
    of_metrics = [entry for entry in entries if _reads_metrics(entry)]
    if len(of_metrics) > 1:
        raise SettingsError("data_sources", "two sources of the engines' metrics")
    metrics, core = _metrics(
        of_metrics[0] if of_metrics else SourceSettings(type=METRICS),
        metrics_path,
        sources,
        extractors,
    )
    others = tuple(
        _polled(
            entry, build_plugin(sources, entry.type, _name(entry), entry.parameters), extractors
        )
        for entry in entries
        if not _reads_metrics(entry)
    )
    names = [source.name for source in (metrics, *others)]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError("data_sources", f"two sources have the name {name!r}")
    tls = {
        source.source.tls
        for source in (metrics, *others)
        if isinstance(source.source, HttpSource) and source.source.tls is not None
    }
    return DataLayer(metrics, core, others, frozenset(tls))


def _reads_metrics(entry: SourceSettings) -> bool:
    return entry.type == METRICS or any(one.type == CORE_METRICS for one in entry.extractors)


def _metrics(
    entry: SourceSettings,
    path: str,
    sources: Mapping[str, PluginType[DataSource]],
    extractors: Mapping[str, PluginType[Extractor]],
) -> tuple[PolledSource, CoreMetricsExtractor]:
    if entry.interval_s is not None:
        raise SettingsError(
            f"data_sources[{_name(entry)}].interval_s",
            "of the metrics are scrape_interval_s and scrape_idle_interval_s",
        )
    given = next((one for one in entry.extractors if one.type == CORE_METRICS), None)
    built = build_plugin(
        {CORE_METRICS: PluginType(Parameters, lambda _, params: CoreMetricsExtractor(params))},
        CORE_METRICS,
        CORE_METRICS,
        given.parameters if given else {},
    )
    source: DataSource
    if entry.type == METRICS:
        own = PluginType(
            HttpParameters, lambda _, params: MetricsDataSource(params, path, built.path_of)
        )
        source = build_plugin({METRICS: own}, METRICS, _name(entry), entry.parameters)
    else:
        source = build_plugin(sources, entry.type, _name(entry), entry.parameters)
    rest = tuple(one for one in entry.extractors if one.type != CORE_METRICS)
    polled = _polled(msgspec.structs.replace(entry, extractors=rest), source, extractors)
    return polled, built


def _polled(
    entry: SourceSettings, source: DataSource, extractors: Mapping[str, PluginType[Extractor]]
) -> PolledSource:
    return PolledSource(
        entry.type,
        _name(entry),
        source,
        tuple(
            NamedExtractor(one.type, build_plugin(extractors, one.type, one.type, one.parameters))
            for one in entry.extractors
        ),
        entry.interval_s or DEFAULT_INTERVAL_S,
    )


def _name(entry: SourceSettings) -> str:
    return entry.name or entry.type
