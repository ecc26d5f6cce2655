"""`round-robin-fairness-policy`: each flow of the band in turn."""

from collections import OrderedDict
from dataclasses import dataclass, field

from pointsman_flow_controller.core.flow_queue import Order
from pointsman_flow_controller.core.plugin_protocols import FairnessPolicy

MOST_TAKEN = 1_000
"""A flow is passed over no more often than that in a row."""


@dataclass(slots=True)
class RoundRobinFairnessPolicy:
    """One request of each flow that has any, then the next round.

    A flow that comes to have requests goes to the end of the round. Upstream goes by the flows'
    names; the shares are the same.
    """

    _round: OrderedDict[str, None] = field(default_factory=OrderedDict[str, None])
    _taken_elsewhere: dict[str, int] = field(default_factory=dict[str, int])
    """Turns of waiting flows that other replicas have given them, still to be passed over."""

    def head_changed(self, flow: str, head: Order | None) -> None:
        if head is None:
            self._round.pop(flow, None)
            self._taken_elsewhere.pop(flow, None)
        else:
            self._round.setdefault(flow)

    def next_flow(self) -> str | None:
        turns, taken = self._round, self._taken_elsewhere
        while taken and (flow := next(iter(turns), None)) in taken:
            # Its turn was taken at another replica.
            if taken[flow] == 1:
                del taken[flow]
            else:
                taken[flow] -= 1
            turns.move_to_end(flow)
        return next(iter(turns), None)

    def dispatched(self, flow: str) -> None:
        if flow in self._round:
            self._round.move_to_end(flow)

    def dispatched_elsewhere(self, flow: str, requests: int) -> None:
        if flow in self._round and requests > 0:
            taken = self._taken_elsewhere.get(flow, 0) + requests
            self._taken_elsewhere[flow] = min(taken, MOST_TAKEN)

    def charge(self, flow: str, prompt_tokens: float, output_tokens: float) -> None:
        del flow, prompt_tokens, output_tokens  # a request counts as one, whatever it costs

    def weight(self, flow: str, queued: int) -> float:
        del flow, queued
        return 1.0

    def inherit(self, previous: FairnessPolicy) -> None:
        del previous
