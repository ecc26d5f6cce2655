"""`round-robin-fairness-policy`: each flow of the band in turn."""

from collections import OrderedDict
from dataclasses import dataclass, field

from pointsman_flow_controller.core.flow_queue import Order


@dataclass(slots=True)
class RoundRobinFairnessPolicy:
    """One request of each flow that has any, then the next round.

    A flow that comes to have requests goes to the end of the round. Upstream goes by the flows'
    names; the shares are the same.
    """

    _round: OrderedDict[str, None] = field(default_factory=OrderedDict[str, None])

    def head_changed(self, flow: str, head: Order | None) -> None:
        if head is None:
            self._round.pop(flow, None)
        else:
            self._round.setdefault(flow)

    def next_flow(self) -> str | None:
        return next(iter(self._round), None)

    def served(self, flow: str, tokens: int) -> None:
        del tokens
        if flow in self._round:
            self._round.move_to_end(flow)
