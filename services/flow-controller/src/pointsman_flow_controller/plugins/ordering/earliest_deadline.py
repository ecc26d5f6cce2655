"""`edf-ordering-policy`: the request whose time is over first."""

from dataclasses import dataclass

from pointsman_flow_controller.core.flow_queue import QueuedRequest


@dataclass(frozen=True, slots=True)
class EarliestDeadlineOrderingPolicy:
    """By arrival + TTL; a request without a limit comes last."""

    def rank(self, request: QueuedRequest) -> float:
        return request.arrived_at + request.ttl_s
