from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.scorers.blending import blend, fewest_first


class QueueDepthScorer:
    """Prefers the endpoints with the fewest requests waiting in the engine.

    score = (longest - waiting) / (longest - shortest); 1 everywhere when all queues are equal.
    Source: llm-d-router's queue-scorer. Unknown or old: blended, see blending.py.
    """

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        del request
        return blend(fewest_first(candidates.waiting), candidates)
