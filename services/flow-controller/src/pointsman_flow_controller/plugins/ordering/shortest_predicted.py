"""`shortest-predicted-ordering-policy`: the request that is expected to be done soonest."""

from dataclasses import dataclass

from pointsman_flow_controller.core.flow_queue import QueuedRequest


@dataclass(frozen=True, slots=True)
class ShortestPredictedOrderingPolicy:
    """By predicted service time, less `ageing` seconds of it for each second of waiting.

    As all requests age alike, the rank need not change while they wait:
    predicted - ageing × (now - arrival) orders as predicted + ageing × arrival does. A request
    predicted to take p seconds is overtaken only by what arrives within p / ageing seconds of it,
    so none starves.
    """

    prefill_tokens_per_s: float = 22_000.0
    decode_tokens_per_s: float = 80.0
    """Of one answer."""
    ageing: float = 0.5

    def rank(self, request: QueuedRequest) -> float:
        predicted_s = (
            request.prompt_tokens / self.prefill_tokens_per_s
            + request.expected_output_tokens / self.decode_tokens_per_s
        )
        return predicted_s + self.ageing * request.arrived_at
