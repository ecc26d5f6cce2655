"""Upstream's EndpointPickerConfig, read as strictly as upstream reads it.

One document configures several layers; each takes its own part. This module checks the document's
shape, its names and its references, and says which layer a plugin type belongs to; the layer checks
the parameters. Source of fields and defaults: llm-d-router, apix/config/v1alpha1.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import yaml

from pointsman_common.errors import SettingsError
from pointsman_common.kubernetes_units import parse_duration_s as parse_duration_s  # noqa: PLC0414  (offered here too)
from pointsman_common.kubernetes_units import parse_quantity as parse_quantity  # noqa: PLC0414  (offered here too)
from pointsman_common.strict_yaml import load_yaml

API_VERSIONS = ("llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1")
FEATURE_GATES: Mapping[str, bool] = {"flowControl": False, "haPopulateNonLeaderDatastore": True}
ALWAYS_THERE = frozenset(
    {
        "fcfs-ordering-policy",
        "global-strict-fairness-policy",
        "static-usage-limit-policy",
        "utilization-detector",
        "metrics-data-source",
        "core-metrics-extractor",
    }
)
"""Plugins that a document may refer to without defining them."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    pass


class PluginSpec(_Strict, frozen=True):
    type: str
    name: str = ""
    """Defaults to the type."""
    parameters: dict[str, Any] | None = None


class PluginRef(_Strict, frozen=True):
    plugin_ref: str


class ProfilePlugin(_Strict, frozen=True):
    plugin_ref: str
    weight: float | None = None
    """Of a scorer; 1.0 when not given."""


class SchedulingProfileSpec(_Strict, frozen=True):
    name: str
    plugins: tuple[ProfilePlugin, ...] = ()


class RequestHandlerSpec(_Strict, frozen=True):
    parsers: tuple[PluginRef, ...] = ()


class DataSourceSpec(_Strict, frozen=True):
    plugin_ref: str
    extractors: tuple[PluginRef, ...] = ()


class DataLayerSpec(_Strict, frozen=True):
    inject_defaults: bool = True
    sources: tuple[DataSourceSpec, ...] = ()
    discovery: PluginRef | None = None
    peer_discovery: PluginRef | None = None
    cross_replica_syncer_plugin_ref: str = ""
    cross_replica_sync_interval: str = "200ms"


class PriorityBandSpec(_Strict, frozen=True):
    priority: int = 0
    max_bytes: int | str | None = None
    max_requests: int | str | None = None
    fairness_policy_ref: str = ""
    ordering_policy_ref: str = ""


class FlowControlSpec(_Strict, frozen=True):
    max_bytes: int | str | None = None
    max_requests: int | str | None = None
    default_request_ttl: str | None = msgspec.field(name="defaultRequestTTL", default=None)
    no_endpoint_request_ttl: str | None = msgspec.field(name="noEndpointRequestTTL", default=None)
    default_priority_band: PriorityBandSpec | None = None
    default_negative_priority_band: PriorityBandSpec | None = None
    priority_bands: tuple[PriorityBandSpec, ...] = ()
    usage_limit_policy_plugin_ref: str = ""
    saturation_detector: PluginRef | None = None
    enable_eviction: bool = False


class EndpointPickerConfig(_Strict, frozen=True):
    api_version: str
    kind: str
    metadata: dict[str, Any] | None = None
    feature_gates: tuple[str, ...] = ()
    plugins: tuple[PluginSpec, ...] = ()
    scheduling_profiles: tuple[SchedulingProfileSpec, ...] = ()
    saturation_detector: PluginRef | None = None
    parser: PluginRef | None = None
    request_handler: RequestHandlerSpec | None = None
    data_layer: DataLayerSpec | None = None
    flow_control: FlowControlSpec | None = None

    def gate(self, name: str) -> bool:
        """Whether a feature gate is on."""
        on = FEATURE_GATES[name]
        for entry in self.feature_gates:
            key, _, value = entry.partition("=")
            if key == name:
                on = value.lower() != "false"
        return on

    def plugin(self, name: str) -> PluginSpec | None:
        """The plugin of that name."""
        return next((plugin for plugin in self.plugins if plugin.name == name), None)

    def parser_types(self) -> tuple[str, ...]:
        """Types of the request parsers, in order; empty: the default ones."""
        refs = self.request_handler.parsers if self.request_handler else ()
        if not refs and self.parser:
            refs = (self.parser,)
        found = (self.plugin(ref.plugin_ref) for ref in refs)
        return tuple(plugin.type for plugin in found if plugin)

    def saturation_detector_ref(self) -> str:
        """Name of the saturation detector; empty: the default one."""
        for ref in (
            self.flow_control.saturation_detector if self.flow_control else None,
            self.saturation_detector,
        ):
            if ref is not None:
                return ref.plugin_ref
        return ""


DEFAULT_CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
    weight: 2
  - pluginRef: kv-cache-utilization-scorer
    weight: 2
  - pluginRef: prefix-cache-scorer
    weight: 3
"""
"""Upstream's built-in configuration."""


def parse_endpoint_picker_config(text: str) -> EndpointPickerConfig:
    """Read the YAML text of one EndpointPickerConfig.

    Raises:
        SettingsError: not YAML, an unknown field or gate, a name twice, or a reference to nothing.
    """
    try:
        raw = load_yaml(text)
    except yaml.YAMLError as error:
        raise SettingsError("EndpointPickerConfig", f"is not YAML: {error}") from error
    try:
        config = msgspec.convert(raw, EndpointPickerConfig)
    except msgspec.ValidationError as error:
        raise SettingsError("EndpointPickerConfig", str(error)) from error
    config = msgspec.structs.replace(
        config,
        plugins=tuple(
            plugin if plugin.name else msgspec.structs.replace(plugin, name=plugin.type)
            for plugin in config.plugins
        ),
    )
    _check(config)
    return config


def config_hash(text: str) -> str:
    """Short name of a configuration, for receipts and metrics."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check(config: EndpointPickerConfig) -> None:
    if config.api_version not in API_VERSIONS:
        known = " or ".join(API_VERSIONS)
        raise SettingsError("apiVersion", f"{config.api_version!r} is not {known}")
    if config.kind != "EndpointPickerConfig":
        raise SettingsError("kind", f"{config.kind!r} is not EndpointPickerConfig")
    for entry in config.feature_gates:
        gate, equals, value = entry.partition("=")
        if gate not in FEATURE_GATES:
            known = ", ".join(FEATURE_GATES)
            raise SettingsError("featureGates", f"no gate {entry!r}; there are: {known}")
        if equals and value.lower() not in ("true", "false"):
            raise SettingsError("featureGates", f"{entry!r} is neither {gate}=true nor =false")
    for index, plugin in enumerate(config.plugins):
        if not plugin.type:
            raise SettingsError(f"plugins[{index}].type", "is empty")
    _refuse_twice("plugins", [plugin.name for plugin in config.plugins])
    _refuse_twice("schedulingProfiles", [profile.name for profile in config.scheduling_profiles])
    names = {plugin.name for plugin in config.plugins}
    for where, name in _references(config):
        if name not in names and name not in ALWAYS_THERE:
            raise SettingsError(where, f"pluginRef {name!r} names no plugin of the document")
    if config.flow_control:
        _check_flow_control(config.flow_control)
    if config.data_layer:
        interval = config.data_layer.cross_replica_sync_interval
        _parse_at("dataLayer.crossReplicaSyncInterval", parse_duration_s, interval)


def _check_flow_control(flow: FlowControlSpec) -> None:
    for name, ttl in (
        ("defaultRequestTTL", flow.default_request_ttl),
        ("noEndpointRequestTTL", flow.no_endpoint_request_ttl),
    ):
        if ttl is not None:
            _parse_at(f"flowControl.{name}", parse_duration_s, ttl)
    _parse_at("flowControl.maxBytes", parse_quantity, flow.max_bytes)
    _parse_at("flowControl.maxRequests", parse_quantity, flow.max_requests)
    for where, band in _bands(flow):
        _parse_at(f"{where}.maxBytes", parse_quantity, band.max_bytes)
        _parse_at(f"{where}.maxRequests", parse_quantity, band.max_requests)
    _refuse_twice("flowControl.priorityBands", [str(b.priority) for b in flow.priority_bands])


def _bands(flow: FlowControlSpec) -> Iterator[tuple[str, PriorityBandSpec]]:
    for index, band in enumerate(flow.priority_bands):
        yield f"flowControl.priorityBands[{index}]", band
    if flow.default_priority_band:
        yield "flowControl.defaultPriorityBand", flow.default_priority_band
    if flow.default_negative_priority_band:
        yield "flowControl.defaultNegativePriorityBand", flow.default_negative_priority_band


def _references(config: EndpointPickerConfig) -> Iterator[tuple[str, str]]:
    """Every pluginRef of the document: where it stands, and the name that it refers to."""
    for profile in config.scheduling_profiles:
        for plugin in profile.plugins:
            yield f"schedulingProfiles[{profile.name}]", plugin.plugin_ref
    for ref in config.request_handler.parsers if config.request_handler else ():
        yield "requestHandler.parsers", ref.plugin_ref
    if config.parser:
        yield "parser", config.parser.plugin_ref
    if config.saturation_detector:
        yield "saturationDetector", config.saturation_detector.plugin_ref
    if config.flow_control:
        yield from _flow_control_references(config.flow_control)
    if config.data_layer:
        yield from _data_layer_references(config.data_layer)


def _flow_control_references(flow: FlowControlSpec) -> Iterator[tuple[str, str]]:
    if flow.saturation_detector:
        yield "flowControl.saturationDetector", flow.saturation_detector.plugin_ref
    if flow.usage_limit_policy_plugin_ref:
        yield "flowControl.usageLimitPolicyPluginRef", flow.usage_limit_policy_plugin_ref
    for where, band in _bands(flow):
        if band.fairness_policy_ref:
            yield f"{where}.fairnessPolicyRef", band.fairness_policy_ref
        if band.ordering_policy_ref:
            yield f"{where}.orderingPolicyRef", band.ordering_policy_ref


def _data_layer_references(data: DataLayerSpec) -> Iterator[tuple[str, str]]:
    for source in data.sources:
        yield "dataLayer.sources", source.plugin_ref
        for extractor in source.extractors:
            yield f"dataLayer.sources[{source.plugin_ref}].extractors", extractor.plugin_ref
    if data.discovery:
        yield "dataLayer.discovery", data.discovery.plugin_ref
    if data.peer_discovery:
        yield "dataLayer.peerDiscovery", data.peer_discovery.plugin_ref
    if data.cross_replica_syncer_plugin_ref:
        yield "dataLayer.crossReplicaSyncerPluginRef", data.cross_replica_syncer_plugin_ref


def _parse_at(where: str, parse: Callable[[Any], object], value: Any) -> None:
    try:
        parse(value)
    except SettingsError as error:
        raise SettingsError(where, error.why) from error


def _refuse_twice(where: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(where, f"{name!r} stands twice")
