"""`global-strict-fairness-policy`: the best request of the band, whatever its flow."""

import heapq
from dataclasses import dataclass, field

from pointsman_flow_controller.core.flow_queue import Order
from pointsman_flow_controller.core.plugin_protocols import FairnessPolicy


@dataclass(slots=True)
class GlobalStrictFairnessPolicy:
    """No fairness: a flow that sends more gets more. Upstream's default."""

    _heads: dict[str, Order] = field(default_factory=dict[str, Order])
    _heap: list[tuple[Order, str]] = field(default_factory=list[tuple[Order, str]])
    """Also heads of the past, which are passed over."""

    def head_changed(self, flow: str, head: Order | None) -> None:
        if head is None:
            self._heads.pop(flow, None)
        else:
            self._heads[flow] = head
            heapq.heappush(self._heap, (head, flow))
        if len(self._heap) > 2 * len(self._heads) + 16:
            self._heap = [(order, name) for name, order in self._heads.items()]
            heapq.heapify(self._heap)

    def next_flow(self) -> str | None:
        heap = self._heap
        while heap and self._heads.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][1] if heap else None

    def dispatched(self, flow: str) -> None:
        del flow  # what was given plays no part

    def dispatched_elsewhere(self, flow: str, requests: int) -> None:
        del flow, requests

    def charge(self, flow: str, prompt_tokens: float, output_tokens: float) -> None:
        del flow, prompt_tokens, output_tokens

    def weight(self, flow: str, queued: int) -> float:
        del flow
        return queued

    def inherit(self, previous: FairnessPolicy) -> None:
        del previous
