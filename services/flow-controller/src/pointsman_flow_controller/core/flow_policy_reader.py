"""From an EndpointPickerConfig, or the service's own settings, to the policy of a pool."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from pointsman_common.endpoint_picker_config import (
    EndpointPickerConfig,
    FlowControlSpec,
    PluginSpec,
    PriorityBandSpec,
    parse_duration_s,
    parse_quantity,
)
from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import PluginType, build_plugin
from pointsman_flow_controller.core.flow_policy import BandPolicy, FlowPolicy
from pointsman_flow_controller.core.plugin_protocols import (
    FairnessPolicy,
    OrderingPolicy,
    SaturationDetector,
    UsageLimitPolicy,
)

P = TypeVar("P")

FlowControlMode = Literal["auto", "on", "off"]
"""Whether requests queue. `auto`: as the gate `flowControl` of the configuration says, and where
there is no configuration, yes."""


@dataclass(frozen=True)
class Catalogue:
    """Every plugin type of each kind, by its YAML name."""

    fairness: Mapping[str, PluginType[FairnessPolicy]]
    ordering: Mapping[str, PluginType[OrderingPolicy]]
    saturation: Mapping[str, PluginType[SaturationDetector]]
    usage_limits: Mapping[str, PluginType[UsageLimitPolicy]]


@dataclass(frozen=True)
class Defaults:
    """What holds where a configuration says nothing; times in seconds."""

    band_requests: int = 5_000
    band_bytes: int = 1_000_000_000
    ttl_s: float = 60.0


def read_flow_policy(
    config: EndpointPickerConfig,
    catalogue: Catalogue,
    *,
    defaults: Defaults = Defaults(),
    mode: FlowControlMode = "auto",
) -> FlowPolicy:
    """The policy that a checked document asks for, with upstream's defaults for the rest.

    As upstream has it, the section flowControl counts only where requests queue, but for the
    saturation detector.

    Raises:
        SettingsError: a reference to a plugin of another kind, or parameters that one refuses.
    """
    queueing = config.gate("flowControl") if mode == "auto" else mode == "on"
    reader = _Reader(config, catalogue, defaults)
    reader.check_parameters()
    flow = (config.flow_control if queueing else None) or FlowControlSpec()
    ttl_s = _ttl(flow.default_request_ttl, defaults.ttl_s)
    detector = config.saturation_detector_ref() or "utilization-detector"
    make_detector = reader.maker("saturationDetector", catalogue.saturation, detector)
    usage_limit = flow.usage_limit_policy_plugin_ref or "static-usage-limit-policy"
    band = reader.band("defaultPriorityBand", flow.default_priority_band)
    negative = reader.band("defaultNegativePriorityBand", flow.default_negative_priority_band)
    return FlowPolicy(
        make_detector=make_detector,
        make_usage_limit=reader.maker(
            "usageLimitPolicyPluginRef", catalogue.usage_limits, usage_limit
        ),
        band=band,
        negative_band=negative,
        bands={
            spec.priority: reader.band(f"priorityBands[{index}]", spec)
            for index, spec in enumerate(flow.priority_bands)
        },
        queueing=queueing,
        ttl_s=ttl_s,
        no_endpoint_ttl_s=_ttl(flow.no_endpoint_request_ttl, ttl_s),
        max_requests=parse_quantity(flow.max_requests) or 0,
        max_bytes=parse_quantity(flow.max_bytes) or 0,
        evicts_in_flight=flow.enable_eviction,
    )


class _Reader:
    def __init__(
        self, config: EndpointPickerConfig, catalogue: Catalogue, defaults: Defaults
    ) -> None:
        self._config, self._catalogue, self._defaults = config, catalogue, defaults

    def band(self, where: str, spec: PriorityBandSpec | None) -> BandPolicy:
        """0, like nothing, means the default: a queue is never without bounds."""
        spec = spec or PriorityBandSpec()
        fairness = spec.fairness_policy_ref or "global-strict-fairness-policy"
        ordering = spec.ordering_policy_ref or "fcfs-ordering-policy"
        where = f"flowControl.{where}"
        return BandPolicy(
            make_fairness=self.maker(
                f"{where}.fairnessPolicyRef", self._catalogue.fairness, fairness
            ),
            ordering=self.maker(f"{where}.orderingPolicyRef", self._catalogue.ordering, ordering)(),
            max_requests=parse_quantity(spec.max_requests) or self._defaults.band_requests,
            max_bytes=parse_quantity(spec.max_bytes) or self._defaults.band_bytes,
        )

    def maker(
        self, where: str, kind: Mapping[str, PluginType[P]], reference: str
    ) -> Callable[[], P]:
        """What makes a plugin as the document defines it. Made once here, to see that it can be."""
        spec = self._config.plugin(reference) or PluginSpec(type=reference, name=reference)
        if spec.type not in kind:
            known = ", ".join(sorted(kind))
            raise SettingsError(where, f"{spec.type!r} is none of: {known}")

        def make() -> P:
            return build_plugin(kind, spec.type, spec.name, spec.parameters)

        make()
        return make

    def check_parameters(self) -> None:
        """Also of the plugins that are defined and not used. Those of other layers are theirs."""
        for spec in self._config.plugins:
            _check(self._catalogue.fairness, spec)
            _check(self._catalogue.ordering, spec)
            _check(self._catalogue.saturation, spec)
            _check(self._catalogue.usage_limits, spec)


def _check(kind: Mapping[str, PluginType[P]], spec: PluginSpec) -> None:
    if spec.type in kind:
        build_plugin(kind, spec.type, spec.name, spec.parameters)


def _ttl(text: str | None, default_s: float) -> float:
    """`0s` means no limit."""
    if text is None:
        return default_s
    return parse_duration_s(text) or math.inf
