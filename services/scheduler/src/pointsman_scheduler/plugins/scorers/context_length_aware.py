import math
from collections.abc import Mapping

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import BoolArray, FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    label: str = "llm-d.ai/context-length-range"
    """Holds the prompt lengths that an endpoint is meant for, in tokens: `min-max`."""
    enable_filtering: bool = False
    """Drop the endpoints whose range does not hold the prompt; those without a range stay."""


class ContextLengthAware:
    """Prefers the endpoints meant for prompts of this length, the tightest range first.

    No label: 0.5; one that cannot be read: 0. Within the range of width w:
    0.3 + 0.7 * (0.7 / (1 + w / 10000) + 0.3 * (max - L) / w), and 1 where w is 0. Outside by d
    tokens: 0.3 / (1 + d / 1000). Source: llm-d-router's context-length-aware.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._label, self._filtering = parameters.label, parameters.enable_filtering

    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        if not self._filtering:
            return np.ones(len(candidates), dtype=np.bool_)
        length = request.prompt_tokens
        return np.array([self._accepts(labels, length) for labels in candidates.labels])

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        length = request.prompt_tokens
        return np.array([self._score(labels, length) for labels in candidates.labels])

    def _accepts(self, labels: Mapping[str, str], length: int) -> bool:
        bounds = read_range(labels.get(self._label))
        return bounds is None or bounds[0] <= length <= bounds[1]

    def _score(self, labels: Mapping[str, str], length: int) -> float:
        bounds = read_range(labels.get(self._label))
        if bounds is None:
            return 0.5
        shortest, longest = bounds
        if math.isnan(shortest):
            return 0.0
        if shortest <= length <= longest:
            width = longest - shortest
            if not width:
                return 1.0
            tightness, room = 1.0 / (1.0 + width / 10_000), (longest - length) / width
            return 0.3 + 0.7 * (0.7 * tightness + 0.3 * room)
        distance = max(shortest - length, length - longest)
        return 0.3 / (1.0 + distance / 1000)


def read_range(text: str | None) -> tuple[float, float] | None:
    """`min-max`; `None`: there is none; NaN: it cannot be read, and holds no length."""
    if text is None:
        return None
    shortest, _, longest = text.partition("-")
    try:
        bounds = (int(shortest), int(longest))
    except ValueError:
        return math.nan, math.nan
    return bounds if bounds[0] <= bounds[1] else (math.nan, math.nan)
