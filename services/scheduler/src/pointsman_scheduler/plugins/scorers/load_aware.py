from typing import Annotated

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.scorers.blending import blend


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    threshold: Annotated[int, msgspec.Meta(gt=0)] = 128
    """Waiting requests from which the score is 0."""


class LoadAwareScorer:
    """Prefers short queues on an absolute scale: 0.5 when empty, falling to 0 at the threshold.

    score = 0.5 * (1 - min(waiting, threshold) / threshold)
    Source: llm-d-router's load-aware-scorer. Unknown or old: blended, see blending.py.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._threshold = parameters.threshold

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        del request
        fill = np.minimum(candidates.waiting, self._threshold) / self._threshold
        return blend(0.5 * (1.0 - fill), candidates)
