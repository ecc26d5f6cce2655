from typing import Literal

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.endpoint_attribute import EndpointAttribute, Key


class FixedRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    min: float
    max: float


class AdaptiveRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From the lowest to the highest of the candidates."""


class Normalization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    fixed_range: FixedRange | None = None
    adaptive_range: AdaptiveRange | None = None
    """Holds where no fixed range is given."""


class Algorithm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["linear_lower_is_better", "linear_higher_is_better"]
    normalization: Normalization = Normalization()


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    attribute_key: Key
    algorithm: Algorithm
    producer: str = ""
    """Accepted and without effect: attributes are the datalayer's."""

    def __post_init__(self) -> None:
        fixed = self.algorithm.normalization.fixed_range
        if fixed is not None and not fixed.min < fixed.max:
            raise ValueError(f"fixedRange from {fixed.min} to {fixed.max} is empty")


class EndpointAttributeScorer(EndpointAttribute):
    """Prefers low, or high, values of an attribute, on a line between the ends of a range.

    Unknown: 0. Where all candidates have the same, an adaptive range gives 1. Source:
    llm-d-router's endpoint-attribute-scorer.
    """

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters.attribute_key)
        self._lower_is_better = parameters.algorithm.type == "linear_lower_is_better"
        self._fixed = parameters.algorithm.normalization.fixed_range

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        del request
        values = self.values(candidates)
        unknown = ~np.isfinite(values)
        if unknown.all():
            return np.zeros(len(values))
        known = values[~unknown]
        low, high = float(known.min()), float(known.max())
        if self._fixed is not None:
            low, high = self._fixed.min, self._fixed.max
        height = np.ones(len(values))
        if low < high:
            height = np.clip((np.nan_to_num(values) - low) / (high - low), 0.0, 1.0)
            height = 1.0 - height if self._lower_is_better else height
        return np.where(unknown, 0.0, height)
