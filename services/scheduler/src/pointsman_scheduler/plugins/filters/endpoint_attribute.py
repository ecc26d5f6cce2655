import operator
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import BoolArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.endpoint_attribute import EndpointAttribute, Key

Operator = Literal[
    "LessThan",
    "LessThanOrEqual",
    "GreaterThan",
    "GreaterThanOrEqual",
    "Equal",
    "NotEqual",
]
_COMPARE: Mapping[Operator, Callable[[Any, float], Any]] = {
    "LessThan": operator.lt,
    "LessThanOrEqual": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqual": operator.ge,
    "Equal": operator.eq,
    "NotEqual": operator.ne,
}


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    operator: Operator
    value: float


class Algorithm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    threshold: Threshold
    type: Literal["threshold"] = "threshold"


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    attribute: Key
    algorithm: Algorithm
    producer: str = ""
    """Accepted and without effect: attributes are the datalayer's."""
    on_missing: Literal["Pass", "Fail"] = "Pass"
    fallback_on_empty: bool = False
    """Keep all where none would be left."""


class EndpointAttributeFilter(EndpointAttribute):
    """Keeps the endpoints whose attribute compares true. Source: llm-d-router's
    endpoint-attribute-filter."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters.attribute)
        self._is = parameters

    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        del request
        values, threshold = self.values(candidates), self._is.algorithm.threshold
        compared = np.asarray(_COMPARE[threshold.operator](values, threshold.value), dtype=np.bool_)
        kept = np.where(np.isnan(values), self._is.on_missing == "Pass", compared)
        if self._is.fallback_on_empty and not kept.any():
            kept = np.ones(len(values), dtype=np.bool_)
        return kept
