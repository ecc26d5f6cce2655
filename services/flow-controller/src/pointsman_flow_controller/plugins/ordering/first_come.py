"""`fcfs-ordering-policy`: oldest first."""

from dataclasses import dataclass

from pointsman_flow_controller.core.flow_queue import QueuedRequest


@dataclass(frozen=True, slots=True)
class FirstComeOrderingPolicy:
    """By arrival at the edge, so that a request asked again elsewhere keeps its place."""

    def rank(self, request: QueuedRequest) -> float:
        del request
        return 0.0  # equal ranks go by arrival
