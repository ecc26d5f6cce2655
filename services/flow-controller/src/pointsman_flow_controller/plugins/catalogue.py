"""Every plugin type by its name in an EndpointPickerConfig, with its parameters and defaults."""

from typing import Annotated, Literal

import msgspec

from pointsman_common.endpoint_picker_config import parse_duration_s
from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import NoParameters, PluginType
from pointsman_flow_controller.core.flow_policy_reader import Catalogue
from pointsman_flow_controller.core.plugin_protocols import (
    FairnessPolicy,
    SaturationDetector,
    UsageLimitPolicy,
)
from pointsman_flow_controller.plugins.fairness.global_strict import GlobalStrictFairnessPolicy
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from pointsman_flow_controller.plugins.fairness.virtual_token_counter import (
    WeightedTokenFairnessPolicy,
)
from pointsman_flow_controller.plugins.ordering.earliest_deadline import (
    EarliestDeadlineOrderingPolicy,
)
from pointsman_flow_controller.plugins.ordering.first_come import FirstComeOrderingPolicy
from pointsman_flow_controller.plugins.ordering.shortest_predicted import (
    ShortestPredictedOrderingPolicy,
)
from pointsman_flow_controller.plugins.ordering.slo_deadline import SloDeadlineOrderingPolicy
from pointsman_flow_controller.plugins.ordering.slo_slack import SloSlackOrderingPolicy
from pointsman_flow_controller.plugins.saturation.concurrency import (
    ConcurrencyDetector,
    ConcurrencyMode,
)
from pointsman_flow_controller.plugins.saturation.predicted_ttft import PredictedTtftDetector
from pointsman_flow_controller.plugins.saturation.utilization import UtilizationDetector
from pointsman_flow_controller.plugins.usage_limits.priority_holdback import (
    PriorityHoldbackPolicy,
)
from pointsman_flow_controller.plugins.usage_limits.static_limit import StaticUsageLimitPolicy
from pointsman_flow_controller.plugins.usage_limits.tenant_limit import (
    TenantLimit,
    TenantLimitPolicy,
)

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]
_Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    pass


class UtilizationParameters(_Parameters, frozen=True):
    queue_depth_threshold: _Positive = 5.0
    kv_cache_util_threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    metrics_staleness_threshold: str = "200ms"
    headroom: _NotNegative = 0.0
    """For the filter of the same name in the scheduler; the gate has none."""


class ConcurrencyParameters(_Parameters, frozen=True):
    max_concurrency: Annotated[int, msgspec.Meta(gt=0)] = 100
    max_token_concurrency: Annotated[int, msgspec.Meta(gt=0)] = 1_000_000
    concurrency_mode: ConcurrencyMode = "requests"
    headroom: _NotNegative = 0.0
    """As above."""


class PredictedTtftParameters(_Parameters, frozen=True):
    target: str = "1s"
    """The time to first token that is to be kept."""
    prefill_tokens_per_second: _Positive = 22_000.0
    step_overhead: str = "11ms"
    tokens_per_step: Annotated[int, msgspec.Meta(gt=0)] = 2_048
    max_sequences: Annotated[int, msgspec.Meta(gt=0)] = 256


class WeightedTokenParameters(_Parameters, frozen=True):
    prompt_weight: _NotNegative = 1.0
    output_weight: _NotNegative = 2.0
    weights: dict[str, _Positive] = {}
    default_weight: _Positive = 1.0


class SloSlackParameters(_Parameters, frozen=True):
    prefill_tokens_per_second: _Positive = 22_000.0


class ShortestPredictedParameters(_Parameters, frozen=True):
    prefill_tokens_per_second: _Positive = 22_000.0
    decode_tokens_per_second: _Positive = 80.0
    ageing: Annotated[float, msgspec.Meta(gt=0)] = 0.5


class StaticLimitParameters(_Parameters, frozen=True):
    threshold: _Ratio = 1.0


class HoldbackParameters(_Parameters, frozen=True):
    min_ceiling: _Ratio
    max_ceiling: _Ratio = 1.0
    domain: Literal["rank", "value"] = "rank"


class TenantParameters(_Parameters, frozen=True):
    requests: _NotNegative = 0.0
    """Per window; 0: no limit."""
    tokens: _NotNegative = 0.0
    window: str = "60s"
    burst: _Positive = 1.0


class TenantLimitParameters(_Parameters, frozen=True):
    default_tenant: TenantParameters = TenantParameters()
    tenants: dict[str, TenantParameters] = {}
    threshold: _Ratio = 1.0
    """As of the static-usage-limit-policy."""
    holdback: HoldbackParameters | None = None
    """In place of the threshold, as of the priority-holdback-policy."""


def catalogue(*, staleness_floor_s: float = 0.0) -> Catalogue:
    """All types. Metrics younger than `staleness_floor_s` are never stale, whatever a
    configuration says."""

    def utilization(name: str, given: UtilizationParameters) -> SaturationDetector:
        staleness_s = _seconds(name, "metricsStalenessThreshold", given.metrics_staleness_threshold)
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
            "weighted-token-fairness-policy": PluginType(WeightedTokenParameters, _weighted),
        },
        ordering={
            "fcfs-ordering-policy": PluginType(NoParameters, lambda *_: FirstComeOrderingPolicy()),
            "edf-ordering-policy": PluginType(
                NoParameters, lambda *_: EarliestDeadlineOrderingPolicy()
            ),
            "slo-deadline-ordering-policy": PluginType(
                NoParameters, lambda *_: SloDeadlineOrderingPolicy()
            ),
            "slo-slack-ordering-policy": PluginType(
                SloSlackParameters,
                lambda _, given: SloSlackOrderingPolicy(given.prefill_tokens_per_second),
            ),
            "shortest-predicted-ordering-policy": PluginType(
                ShortestPredictedParameters,
                lambda _, given: ShortestPredictedOrderingPolicy(
                    given.prefill_tokens_per_second,
                    given.decode_tokens_per_second,
                    given.ageing,
                ),
            ),
        },
        saturation={
            "utilization-detector": PluginType(UtilizationParameters, utilization),
            "concurrency-detector": PluginType(ConcurrencyParameters, _concurrency),
            "predicted-ttft-detector": PluginType(PredictedTtftParameters, _predicted_ttft),
        },
        usage_limits={
            "static-usage-limit-policy": PluginType(
                StaticLimitParameters, lambda _, given: StaticUsageLimitPolicy(given.threshold)
            ),
            "priority-holdback-policy": PluginType(HoldbackParameters, _holdback),
            "tenant-limit-policy": PluginType(TenantLimitParameters, _tenant_limit),
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


def _weighted(_: str, given: WeightedTokenParameters) -> FairnessPolicy:
    return WeightedTokenFairnessPolicy(
        prompt_weight=given.prompt_weight,
        output_weight=given.output_weight,
        weights=given.weights,
        default_weight=given.default_weight,
    )


def _predicted_ttft(name: str, given: PredictedTtftParameters) -> SaturationDetector:
    return PredictedTtftDetector(
        target_s=_positive_seconds(name, "target", given.target),
        prefill_s_per_token=1.0 / given.prefill_tokens_per_second,
        step_overhead_s=_seconds(name, "stepOverhead", given.step_overhead),
        tokens_per_step=given.tokens_per_step,
        max_sequences=given.max_sequences,
    )


def _tenant_limit(name: str, given: TenantLimitParameters) -> UsageLimitPolicy:
    ceilings: UsageLimitPolicy = StaticUsageLimitPolicy(given.threshold)
    if given.holdback is not None:
        ceilings = _holdback(name, given.holdback)

    def limit(where: str, one: TenantParameters) -> TenantLimit:
        window_s = _positive_seconds(name, f"{where}.window", one.window)
        return TenantLimit(one.requests, one.tokens, window_s, one.burst)

    return TenantLimitPolicy(
        ceilings,
        limit("defaultTenant", given.default_tenant),
        {tenant: limit(f"tenants[{tenant}]", one) for tenant, one in given.tenants.items()},
    )


def _positive_seconds(name: str, key: str, text: str) -> float:
    seconds = _seconds(name, key, text)
    if seconds <= 0.0:
        raise SettingsError(f"plugins[{name}].parameters.{key}", f"{text!r} is not above 0")
    return seconds


def _seconds(name: str, key: str, text: str) -> float:
    try:
        return parse_duration_s(text)
    except SettingsError as error:
        raise SettingsError(f"plugins[{name}].parameters.{key}", error.why) from error
