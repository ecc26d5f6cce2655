from typing import Annotated, Literal

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import BoolArray, FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest

Metric = Literal["active-requests", "running-requests", "waiting-queue", "kv-cache-utilization"]


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    metric: Metric
    max_value: Annotated[float, msgspec.Meta(ge=0)]


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    conditions: Annotated[tuple[Condition, ...], msgspec.Meta(min_length=1)]
    fallback_on_empty: bool = False
    """Keep all where none meets the conditions."""


class UtilizationFilter:
    """Keeps the endpoints where every metric is at most its limit; an unknown one is within it.

    Source: llm-d-router's utilization-filter.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._conditions, self._fallback = parameters.conditions, parameters.fallback_on_empty

    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        del request
        kept = np.ones(len(candidates), dtype=np.bool_)
        for condition in self._conditions:
            kept &= ~(_column(condition.metric, candidates) > condition.max_value)
        if self._fallback and not kept.any():
            return ~kept
        return kept


def _column(metric: Metric, candidates: Candidates) -> FloatArray:
    match metric:
        case "active-requests":
            return candidates.requests
        case "running-requests":
            return candidates.running
        case "waiting-queue":
            return candidates.waiting
        case "kv-cache-utilization":
            return candidates.kv
