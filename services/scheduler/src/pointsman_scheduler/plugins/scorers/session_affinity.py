import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.session_pinning import SessionAffinity


class SessionAffinityScorer(SessionAffinity):
    """Prefers the endpoint that the session is pinned to: 1 there, 0 elsewhere.

    Source: llm-d-router's session-affinity-scorer.
    """

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        score, row = np.zeros(len(candidates)), self._pinning.row(request, candidates)
        if row is not None:
            score[row] = 1.0
        return score
