"""Every plugin type by its name in an EndpointPickerConfig, with its parameters and defaults."""

from typing import Annotated, Literal

import msgspec

from pointsman_common.endpoint_picker_config import parse_duration_s
from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import NoParameters, PluginType
from pointsman_flow_controller.core.flow_policy_reader import Catalogue
from pointsman_flow_controller.core.plugin_protocols import SaturationDetector, UsageLimitPolicy
from pointsman_flow_controller.plugins.fairness.global_strict import GlobalStrictFairnessPolicy
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from pointsman_flow_controller.plugins.ordering.earliest_deadline import (
    EarliestDeadlineOrderingPolicy,
)
from pointsman_flow_controller.plugins.ordering.first_come import FirstComeOrderingPolicy
from pointsman_flow_controller.plugins.ordering.slo_deadline import SloDeadlineOrderingPolicy
from pointsman_flow_controller.plugins.saturation.concurrency import (
    ConcurrencyDetector,
    ConcurrencyMode,
)
from pointsman_flow_controller.plugins.saturation.utilization import UtilizationDetector
from pointsman_flow_controller.plugins.usage_limits.priority_holdback import (
    PriorityHoldbackPolicy,
)
from pointsman_flow_controller.plugins.usage_limits.static_limit import StaticUsageLimitPolicy

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    pass


class UtilizationParameters(_Parameters, frozen=True):
    queue_depth_threshold: _Positive = 5.0
    kv_cache_util_threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    metrics_staleness_threshold: str = "200ms"
    headroom: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """For the filter of the same name in the scheduler; the gate has none."""


class ConcurrencyParameters(_Parameters, frozen=True):
    max_concurrency: Annotated[int, msgspec.Meta(gt=0)] = 100
    max_token_concurrency: Annotated[int, msgspec.Meta(gt=0)] = 1_000_000
    concurrency_mode: ConcurrencyMode = "requests"
    headroom: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """As above."""


class StaticLimitParameters(_Parameters, frozen=True):
    threshold: _Ratio = 1.0


class HoldbackParameters(_Parameters, frozen=True):
    min_ceiling: _Ratio
    max_ceiling: _Ratio = 1.0
    domain: Literal["rank", "value"] = "rank"


def catalogue(*, staleness_floor_s: float = 0.0) -> Catalogue:
    """All types. Metrics younger than `staleness_floor_s` are never stale, whatever a
    configuration says."""

    def utilization(name: str, given: UtilizationParameters) -> SaturationDetector:
        try:
            staleness_s = parse_duration_s(given.metrics_staleness_threshold)
        except SettingsError as error:
            where = f"plugins[{name}].parameters.metricsStalenessThreshold"
            raise SettingsError(where, error.why) from error
        return UtilizationDetector(
            queue_depth_threshold=given.queue_depth_threshold,
            kv_cache_threshold=given.kv_cache_util_threshold,
            staleness_s=max(staleness_s, staleness_floor_s),
        )

    return Catalogue(
        fairness={
            "round-robin-fairness-policy": PluginType(
                NoParameters, lambda *_: RoundRobinFairnessPolicy()
            ),
            "global-strict-fairness-policy": PluginType(
                NoParameters, lambda *_: GlobalStrictFairnessPolicy()
            ),
        },
        ordering={
            "fcfs-ordering-policy": PluginType(NoParameters, lambda *_: FirstComeOrderingPolicy()),
            "edf-ordering-policy": PluginType(
                NoParameters, lambda *_: EarliestDeadlineOrderingPolicy()
            ),
            "slo-deadline-ordering-policy": PluginType(
                NoParameters, lambda *_: SloDeadlineOrderingPolicy()
            ),
        },
        saturation={
            "utilization-detector": PluginType(UtilizationParameters, utilization),
            "concurrency-detector": PluginType(ConcurrencyParameters, _concurrency),
        },
        usage_limits={
            "static-usage-limit-policy": PluginType(
                StaticLimitParameters, lambda _, given: StaticUsageLimitPolicy(given.threshold)
            ),
            "priority-holdback-policy": PluginType(HoldbackParameters, _holdback),
        },
    )


def _concurrency(_: str, given: ConcurrencyParameters) -> SaturationDetector:
    return ConcurrencyDetector(
        max_requests=given.max_concurrency,
        max_tokens=given.max_token_concurrency,
        mode=given.concurrency_mode,
    )


def _holdback(name: str, given: HoldbackParameters) -> UsageLimitPolicy:
    if given.min_ceiling > given.max_ceiling:
        raise SettingsError(f"plugins[{name}].parameters", "minCeiling is above maxCeiling")
    return PriorityHoldbackPolicy(given.min_ceiling, given.max_ceiling, given.domain)
