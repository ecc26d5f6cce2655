import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest

ACTIVE, FREE_SLOT, WAITING = 1.0, 0.8, 0.6


class LoraAffinityScorer:
    """Prefers the endpoints where the request's adapter is loaded.

    1.0 where it is in use, else 0.8 where a slot is free, else 0.6 where requests wait for it, else
    0. The adapter is the request's target model. Source: llm-d-router's lora-affinity-scorer.
    Unknown slots count as none free, as upstream's; what is old counts in proportion to its
    freshness.
    """

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        loras, adapter = candidates.loras, request.model
        score = np.where(loras.waiting(adapter), WAITING, 0.0)
        score[loras.has_free_slot()] = FREE_SLOT
        score[loras.active(adapter)] = ACTIVE
        return score * candidates.freshness
