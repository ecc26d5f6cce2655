"""The flow controller's saturation detectors as filters: they drop endpoints over a threshold.

Source: llm-d-router's utilization-detector and concurrency-detector, used as filters.
"""

from typing import Annotated, Literal

import msgspec

from pointsman_scheduler.core.arrays import BoolArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest

Headroom = Annotated[float, msgspec.Meta(ge=0)]


class UtilizationParameters(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"
):
    queue_depth_threshold: Annotated[float, msgspec.Meta(gt=0)] = 5
    kv_cache_util_threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    metrics_staleness_threshold: str = "200ms"
    """Of the detector; the filter reads what there is."""
    headroom: Headroom = 0.0


class UtilizationDetectorFilter:
    """Keeps queue < threshold * (1 + headroom) and kv < threshold * (1 + headroom); all where that
    leaves none. An unknown metric is within its threshold."""

    def __init__(self, parameters: UtilizationParameters) -> None:
        self._queue = parameters.queue_depth_threshold * (1.0 + parameters.headroom)
        self._kv = parameters.kv_cache_util_threshold * (1.0 + parameters.headroom)

    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        del request
        kept = ~(candidates.waiting >= self._queue) & ~(candidates.kv >= self._kv)
        return kept if kept.any() else ~kept


class ConcurrencyParameters(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"
):
    max_concurrency: Annotated[int, msgspec.Meta(gt=0)] = 100
    max_token_concurrency: Annotated[int, msgspec.Meta(gt=0)] = 1_000_000
    concurrency_mode: Literal["requests", "tokens", "hybrid"] = "requests"
    headroom: Headroom = 0.0


class ConcurrencyDetectorFilter:
    """Keeps the endpoints whose requests in flight (or uncached tokens, or the mean of both ratios)
    are below their capacity * (1 + headroom); perhaps none, as upstream's."""

    def __init__(self, parameters: ConcurrencyParameters) -> None:
        self._is = parameters

    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        del request
        requests = candidates.requests / self._is.max_concurrency
        tokens = candidates.prefill_tokens / self._is.max_token_concurrency
        match self._is.concurrency_mode:
            case "requests":
                load = requests
            case "tokens":
                load = tokens
            case "hybrid":
                load = (requests + tokens) / 2.0
        return load < 1.0 + self._is.headroom
