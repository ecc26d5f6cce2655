"""Every plugin type by its YAML name."""

from collections.abc import Callable
from typing import Any

import msgspec

from pointsman_common.plugin_catalogue import NoParameters, PluginType
from pointsman_scheduler.core.config import Catalogue
from pointsman_scheduler.core.plugin_protocols import Plugin
from pointsman_scheduler.plugins.filters import (
    endpoint_attribute as endpoint_attribute_filter,
)
from pointsman_scheduler.plugins.filters import (
    header_based_testing,
    label_selector,
    prefix_cache_affinity,
    role,
    saturated_endpoint,
    session_affinity,
    utilization,
)
from pointsman_scheduler.plugins.pickers import max_score, random, weighted_random
from pointsman_scheduler.plugins.profile_handlers import (
    by_header,
    data_parallel,
    prefill_decode,
    single_profile,
)
from pointsman_scheduler.plugins.scorers import (
    active_request,
    context_length_aware,
    endpoint_attribute,
    header_label_affinity,
    kv_cache_utilization,
    load_aware,
    lora_affinity,
    no_hit_lru,
    predicted_latency_cost,
    queue_depth,
    running_requests,
    token_load,
)
from pointsman_scheduler.plugins.scorers import (
    prefix_cache_affinity as prefix_cache_scorer,
)
from pointsman_scheduler.plugins.scorers import (
    session_affinity as session_affinity_scorer,
)
from pointsman_scheduler.plugins.session_pinning import Parameters as SessionParameters


def _plain(build: Callable[[], Plugin]) -> PluginType[Plugin]:
    """A type without parameters."""
    return PluginType(NoParameters, lambda _name, _parameters: build())


def _with(kind: type[msgspec.Struct], build: Callable[[Any], Plugin]) -> PluginType[Plugin]:
    """A type with parameters."""
    return PluginType(kind, lambda _name, parameters: build(parameters))


PLUGINS: Catalogue = {
    # scorers
    "predicted-latency-cost-scorer": _with(
        predicted_latency_cost.Parameters, predicted_latency_cost.PredictedLatencyCostScorer
    ),
    "queue-scorer": _plain(queue_depth.QueueDepthScorer),
    "running-requests-size-scorer": _plain(running_requests.RunningRequestsScorer),
    "kv-cache-utilization-scorer": _plain(kv_cache_utilization.KvCacheUtilizationScorer),
    "load-aware-scorer": _with(load_aware.Parameters, load_aware.LoadAwareScorer),
    "lora-affinity-scorer": _plain(lora_affinity.LoraAffinityScorer),
    "prefix-cache-scorer": _with(
        prefix_cache_scorer.Parameters, prefix_cache_scorer.PrefixCacheAffinityScorer
    ),
    "active-request-scorer": _with(active_request.Parameters, active_request.ActiveRequestScorer),
    "token-load-scorer": _with(token_load.Parameters, token_load.TokenLoadScorer),
    "no-hit-lru-scorer": _with(no_hit_lru.Parameters, no_hit_lru.NoHitLruScorer),
    "context-length-aware": _with(
        context_length_aware.Parameters, context_length_aware.ContextLengthAware
    ),
    "precise-prefix-cache-scorer": _with(
        prefix_cache_scorer.PreciseParameters, prefix_cache_scorer.precise_scorer
    ),
    "header-label-affinity-scorer": _with(
        header_label_affinity.Parameters, header_label_affinity.HeaderLabelAffinityScorer
    ),
    "session-affinity-scorer": _with(
        SessionParameters, session_affinity_scorer.SessionAffinityScorer
    ),
    "endpoint-attribute-scorer": _with(
        endpoint_attribute.Parameters, endpoint_attribute.EndpointAttributeScorer
    ),
    # filters
    "endpoint-attribute-filter": _with(
        endpoint_attribute_filter.Parameters, endpoint_attribute_filter.EndpointAttributeFilter
    ),
    "label-selector-filter": _with(
        label_selector.LabelSelector, label_selector.LabelSelectorFilter
    ),
    "by-label-selector": _with(label_selector.LabelSelector, label_selector.LabelSelectorFilter),
    "by-label": _with(label_selector.ByLabel, label_selector.ByLabelFilter),
    "decode-filter": _plain(role.decode_filter),
    "prefill-filter": _plain(role.prefill_filter),
    "encode-filter": _plain(role.encode_filter),
    "prefix-cache-affinity-filter": _with(
        prefix_cache_affinity.Parameters, prefix_cache_affinity.PrefixCacheAffinityFilter
    ),
    "session-affinity-filter": _with(SessionParameters, session_affinity.SessionAffinityFilter),
    "utilization-filter": _with(utilization.Parameters, utilization.UtilizationFilter),
    "utilization-detector": _with(
        saturated_endpoint.UtilizationParameters, saturated_endpoint.UtilizationDetectorFilter
    ),
    "concurrency-detector": _with(
        saturated_endpoint.ConcurrencyParameters, saturated_endpoint.ConcurrencyDetectorFilter
    ),
    "header-based-testing-filter": _plain(header_based_testing.HeaderBasedTestingFilter),
    # pickers
    "max-score-picker": _with(max_score.Parameters, max_score.MaxScorePicker),
    "random-picker": _with(max_score.Parameters, random.RandomPicker),
    "weighted-random-picker": _with(max_score.Parameters, weighted_random.WeightedRandomPicker),
    # profile handlers
    "single-profile-handler": _plain(single_profile.SingleProfileHandler),
    "disagg-profile-handler": _with(
        prefill_decode.Parameters, prefill_decode.DisaggregationHandler
    ),
    "pd-profile-handler": _with(prefill_decode.OlderParameters, prefill_decode.older_handler),
    "data-parallel-profile-handler": _with(
        data_parallel.Parameters, data_parallel.DataParallelHandler
    ),
    "header-profile-handler": _with(by_header.Parameters, by_header.HeaderProfileHandler),
    # deciders of disaggregation
    "prefix-based-pd-decider": _with(
        prefill_decode.UncachedParameters, prefill_decode.UncachedDecider
    ),
    "always-disagg-pd-decider": _plain(prefill_decode.AlwaysDecider),
    "predicted-latency-pd-decider": _with(
        prefill_decode.TransferParameters, prefill_decode.PredictedLatencyDecider
    ),
}
