from typing import Annotated

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    header_name: Annotated[str, msgspec.Meta(min_length=1)]
    label_key: Annotated[str, msgspec.Meta(min_length=1)]


class HeaderLabelAffinityScorer:
    """Prefers the endpoints whose label has the value of a header: 1 there, 0 elsewhere.

    Without the header: 0 everywhere. Source: llm-d-router's header-label-affinity-scorer.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._header, self._label = parameters.header_name.lower(), parameters.label_key

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        wanted = request.headers.get(self._header, "")
        if not wanted:
            return np.zeros(len(candidates))
        labels = candidates.labels
        return np.array([float(one.get(self._label) == wanted) for one in labels])
