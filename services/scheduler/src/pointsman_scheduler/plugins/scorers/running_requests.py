from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.scorers.blending import blend, fewest_first


class RunningRequestsScorer:
    """Prefers the endpoints with the fewest requests running in the engine.

    score = (most - running) / (most - fewest); 1 everywhere when all run as many.
    Source: llm-d-router's running-requests-size-scorer. Unknown or old: blended, see blending.py.
    """

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        del request
        return blend(fewest_first(candidates.running), candidates)
