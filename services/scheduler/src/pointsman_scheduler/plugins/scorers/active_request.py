from typing import Annotated

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    idle_threshold: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Requests in flight up to which an endpoint counts as idle."""
    max_busy_score: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """Highest score of an endpoint that is not idle."""
    request_timeout: str | None = None
    """Accepted and without effect, as upstream: leases end with their requests."""


class ActiveRequestScorer:
    """Prefers the endpoints with the fewest requests in flight, by the leases of all replicas.

    score = 1 up to the idle threshold, else (most - requests) / most * maxBusyScore
    Source: llm-d-router's active-request-scorer.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._idle, self._busy_score = parameters.idle_threshold, parameters.max_busy_score

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        del request
        requests = candidates.requests
        most = max(float(requests.max()), 1.0)
        return np.where(requests <= self._idle, 1.0, (most - requests) / most * self._busy_score)
