import numpy as np

from pointsman_scheduler.core.arrays import BoolArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.session_pinning import SessionAffinity


class SessionAffinityFilter(SessionAffinity):
    """Keeps the endpoint that the session is pinned to; all where it is not among them.

    Source: llm-d-router's session-affinity-filter.
    """

    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        row = self._pinning.row(request, candidates)
        if row is None:
            return np.ones(len(candidates), dtype=np.bool_)
        kept = np.zeros(len(candidates), dtype=np.bool_)
        kept[row] = True
        return kept
