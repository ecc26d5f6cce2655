"""`core-metrics-extractor`: queue, running requests, KV cache, adapters and more, by engine.

Parameters are llm-d-router's; `coreLabel` and `path` of an engine are ours.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import msgspec

from pointsman_common.errors import SettingsError
from pointsman_datalayer.core.engine_mappings import (
    DEFAULT_ENGINE,
    ENGINE_LABELS,
    ENGINES,
    CacheInfo,
    EngineMapping,
)
from pointsman_datalayer.core.engine_metrics import EngineReader, Extraction
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.metric_spec import MetricSpec


class CustomMetric(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    attribute_key: str
    metric_spec: str


class EngineConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """An engine of one's own, or what is different of one that is known."""

    name: str
    queued_requests_spec: str = ""
    running_requests_spec: str = ""
    kv_usage_spec: str = ""
    lora_spec: str = ""
    cache_info_spec: str = ""
    cache_block_size_label_name: str = ""
    cache_num_blocks_label_name: str = ""
    cache_block_size_spec: str = ""
    cache_num_blocks_spec: str = ""
    custom_metrics: tuple[CustomMetric, ...] = ()
    core_label: str = ""
    """Label that tells the engine cores behind one port apart."""
    path: str = ""
    """Where its metrics are."""


class Parameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    engine_label_key: str = ""
    """Label of an endpoint that names its engine, before the usual ones."""
    default_engine: str = DEFAULT_ENGINE
    engine_configs: tuple[EngineConfig, ...] = ()


class CoreMetricsExtractor:
    def __init__(self, parameters: Parameters) -> None:
        engines = dict(ENGINES)
        for config in parameters.engine_configs:
            engines[config.name] = _mapping(config, engines.get(config.name))
        if parameters.default_engine not in engines:
            raise SettingsError(
                "core-metrics-extractor.defaultEngine",
                f"no engine {parameters.default_engine!r}; there are: {', '.join(sorted(engines))}",
            )
        self._readers = {name: EngineReader(mapping) for name, mapping in engines.items()}
        self._default = self._readers[parameters.default_engine]
        self._labels = tuple(filter(None, (parameters.engine_label_key, *ENGINE_LABELS)))

    def read(self, endpoint: DiscoveredEndpoint, body: bytes, now: float) -> Extraction:
        """`now`: when the body was read, in monotonic seconds."""
        return self._reader(endpoint).read(body, now)

    def path_of(self, endpoint: DiscoveredEndpoint) -> str:
        """Where the endpoint's engine has its metrics; empty: where the settings say."""
        return self._reader(endpoint).mapping.path

    def extract(self, endpoint: DiscoveredEndpoint, body: bytes) -> Mapping[str, float]:
        """The custom metrics alone, as an extractor of another source."""
        return self.read(endpoint, body, 0.0).metrics.attributes

    def _reader(self, endpoint: DiscoveredEndpoint) -> EngineReader:
        labels = endpoint.labels
        for key in self._labels:
            if name := labels.get(key):
                return self._readers.get(name, self._default)
        return self._default


def _mapping(config: EngineConfig, known: EngineMapping | None) -> EngineMapping:
    """What is given, and for the rest what is known of an engine of that name."""

    def spec(key: str, text: str) -> MetricSpec | None:
        try:
            return MetricSpec.parse(text) if text else None
        except ValueError as error:
            raise SettingsError(
                f"core-metrics-extractor.engineConfigs[{config.name}].{key}", str(error)
            ) from error

    waiting = spec("queuedRequestsSpec", config.queued_requests_spec)
    running = spec("runningRequestsSpec", config.running_requests_spec)
    if known is not None:
        waiting, running = waiting or known.waiting, running or known.running
    if waiting is None or running is None:
        raise SettingsError(
            f"core-metrics-extractor.engineConfigs[{config.name}]",
            "an engine that is not known needs queuedRequestsSpec and runningRequestsSpec",
        )
    base = known or EngineMapping(waiting, running)
    cache = base.cache or CacheInfo()
    cache = CacheInfo(
        info=spec("cacheInfoSpec", config.cache_info_spec) or cache.info,
        block_size_label=config.cache_block_size_label_name or cache.block_size_label,
        blocks_label=config.cache_num_blocks_label_name or cache.blocks_label,
        block_size=spec("cacheBlockSizeSpec", config.cache_block_size_spec) or cache.block_size,
        blocks=spec("cacheNumBlocksSpec", config.cache_num_blocks_spec) or cache.blocks,
    )
    custom = {
        one.attribute_key: found
        for one in config.custom_metrics
        if (found := spec(f"customMetrics[{one.attribute_key}].metricSpec", one.metric_spec))
    }
    return replace(
        base,
        waiting=waiting,
        running=running,
        kv_cache=spec("kvUsageSpec", config.kv_usage_spec) or base.kv_cache,
        lora=spec("loraSpec", config.lora_spec) or base.lora,
        cache=cache,
        attributes=MappingProxyType({**(base.attributes or {}), **custom}),
        core_label=config.core_label or base.core_label,
        path=config.path or base.path,
    )
