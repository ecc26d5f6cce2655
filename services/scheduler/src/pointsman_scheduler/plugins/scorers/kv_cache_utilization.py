from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.scorers.blending import blend


class KvCacheUtilizationScorer:
    """Prefers the endpoints with the most free KV cache: score = 1 - utilization.

    Source: llm-d-router's kv-cache-utilization-scorer. Unknown or old: blended, see blending.py.
    """

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        del request
        return blend(1.0 - candidates.kv, candidates)
