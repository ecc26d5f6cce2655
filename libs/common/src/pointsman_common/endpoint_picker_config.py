"""Upstream's EndpointPickerConfig, read as strictly as upstream reads it.

One document configures several layers; each takes its own part. This module checks the document's
shape, its names and its references, and says which layer a plugin type belongs to; the layer checks
the parameters. Source of fields and defaults: llm-d-router, apix/config/v1alpha1.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from pointsman_common.errors import SettingsError

API_VERSIONS = ("llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1")
FEATURE_GATES: Mapping[str, bool] = {"flowControl": False, "haPopulateNonLeaderDatastore": True}


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
        raw = yaml.safe_load(text)
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


def parse_quantity(value: int | str | None) -> int | None:
    """A Kubernetes quantity as a whole number (`1Gi`, `500M`, `10k`); `None` stays.

    Raises:
        SettingsError: not a quantity.
    """
    if value is None or isinstance(value, int):
        return value
    units = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "k": 10**3, "M": 10**6, "G": 10**9}
    number, factor = value, 1
    for unit, size in units.items():
        if value.endswith(unit):
            number, factor = value.removesuffix(unit), size
            break
    try:
        return int(float(number) * factor)
    except ValueError:
        raise SettingsError("quantity", f"{value!r} is no Kubernetes quantity") from None


def parse_duration_s(text: str) -> float:
    """A Go duration (`1m30s`, `200ms`) in seconds.

    Raises:
        SettingsError: not a duration.
    """
    units = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9, "h": 3600.0, "m": 60.0, "s": 1.0}
    rest, total = text.strip(), 0.0
    if rest == "0":
        return 0.0
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = next((name for name in units if rest[digits:].startswith(name)), None)
        if digits == 0 or unit is None:
            raise SettingsError("duration", f"{text!r} is no duration such as 30s or 200ms")
        total += float(rest[:digits]) * units[unit]
        rest = rest[digits + len(unit) :]
    return total


def _check(config: EndpointPickerConfig) -> None:
    if config.api_version not in API_VERSIONS:
        known = " or ".join(API_VERSIONS)
        raise SettingsError("apiVersion", f"{config.api_version!r} is not {known}")
    if config.kind != "EndpointPickerConfig":
        raise SettingsError("kind", f"{config.kind!r} is not EndpointPickerConfig")
    for entry in config.feature_gates:
        if entry.partition("=")[0] not in FEATURE_GATES:
            known = ", ".join(FEATURE_GATES)
            raise SettingsError("featureGates", f"no gate {entry!r}; there are: {known}")
    _refuse_twice("plugins", [plugin.name for plugin in config.plugins])
    _refuse_twice("schedulingProfiles", [profile.name for profile in config.scheduling_profiles])
    names = {plugin.name for plugin in config.plugins}
    for profile in config.scheduling_profiles:
        for plugin in profile.plugins:
            _refer(f"schedulingProfiles[{profile.name}]", plugin.plugin_ref, names)
    for ref in config.request_handler.parsers if config.request_handler else ():
        _refer("requestHandler.parsers", ref.plugin_ref, names)
    if config.parser is not None:
        _refer("parser", config.parser.plugin_ref, names)
    if reference := config.saturation_detector_ref():
        _refer("saturationDetector", reference, names)


def _refuse_twice(where: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(where, f"{name!r} stands twice")


def _refer(where: str, name: str, names: set[str]) -> None:
    if name not in names:
        raise SettingsError(where, f"pluginRef {name!r} names no plugin of the document")
