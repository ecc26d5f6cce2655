"""`slo-deadline-ordering-policy`: the request whose first token is due first."""

import math
from dataclasses import dataclass

from pointsman_flow_controller.core.flow_queue import QueuedRequest


@dataclass(frozen=True, slots=True)
class SloDeadlineOrderingPolicy:
    """By arrival + the time to first token asked for; a request that asks for none comes last."""

    def rank(self, request: QueuedRequest) -> float:
        slo_s = request.ttft_slo_s
        return math.inf if slo_s is None else request.arrived_at + slo_s
