"""`weighted-token-fairness-policy`: the flow that was given the fewest tokens for its weight.

Source: the virtual token counter of Sheng et al., "Fairness in Serving Large Language Models"
(OSDI 2024), with weights. A flow's counter grows with the tokens that it is served, over its
weight; the waiting flow with the smallest counter is next. A flow that comes back from idleness is
lifted to the smallest counter of those that wait: what it did not use is not saved up. Of two
flows that wait all the time the services differ, per weight, by at most twice what one round of
requests in flight can cost.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

from pointsman_flow_controller.core.flow_queue import Order
from pointsman_flow_controller.core.plugin_protocols import FairnessPolicy

MOST_IDLE = 16_384
"""Counters of flows without requests: beyond these the smallest are forgotten first, which are
those that a return would lift anyway."""


@dataclass(slots=True)
class WeightedTokenFairnessPolicy:
    """Each operation costs O(log n) in the flows that wait."""

    prompt_weight: float = 1.0
    output_weight: float = 2.0
    """A generated token occupies an engine for longer than a prompt token; the paper's figure."""
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    """By fairness id."""
    default_weight: float = 1.0
    _counters: dict[str, float] = field(default_factory=dict[str, float])
    _waiting: dict[str, float] = field(default_factory=dict[str, float])
    """The flows that wait, and the counter that the heap has for each."""
    _heap: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    """Also counters of the past, which are passed over."""
    _resumed: set[str] = field(default_factory=set[str])
    """Flows that waited under the policy before, and have not been told of again."""
    _floor: float = 0.0
    """Counter of the flow that was next last: where a flow begins when nobody waits."""

    def head_changed(self, flow: str, head: Order | None) -> None:
        if head is None:
            self._waiting.pop(flow, None)
            self._forget_idle()
        elif flow not in self._waiting:
            if flow not in self._resumed:
                least = self._least()
                lift = self._floor if least is None else least[0]
                self._counters[flow] = max(self._counters.get(flow, lift), lift)
            self._resumed.discard(flow)
            self._push(flow)

    def next_flow(self) -> str | None:
        least = self._least()
        if least is None:
            return None
        self._floor = max(self._floor, least[0])
        return least[1]

    def dispatched(self, flow: str) -> None:
        del flow  # what it costs is charged

    def dispatched_elsewhere(self, flow: str, requests: int) -> None:
        del flow, requests

    def charge(self, flow: str, prompt_tokens: float, output_tokens: float) -> None:
        cost = self.prompt_weight * prompt_tokens + self.output_weight * output_tokens
        counter = self._counters.get(flow, self._floor)
        self._counters[flow] = counter + cost / self.weights.get(flow, self.default_weight)
        if flow in self._waiting:
            self._push(flow)
        else:
            self._forget_idle()

    def weight(self, flow: str, queued: int) -> float:
        del queued
        return self.weights.get(flow, self.default_weight)

    def inherit(self, previous: FairnessPolicy) -> None:
        if isinstance(previous, WeightedTokenFairnessPolicy):
            self._counters = dict(previous._counters)
            self._floor = previous._floor
            self._resumed = set(previous._waiting)

    def counter(self, flow: str) -> float:
        """Weighted tokens that the flow was given, over its weight, lifts included."""
        return self._counters.get(flow, 0.0)

    def _push(self, flow: str) -> None:
        counter = self._counters[flow]
        self._waiting[flow] = counter
        heapq.heappush(self._heap, (counter, flow))
        if len(self._heap) > 2 * len(self._waiting) + 16:
            self._heap = [(counter, name) for name, counter in self._waiting.items()]
            heapq.heapify(self._heap)

    def _least(self) -> tuple[float, str] | None:
        heap, waiting = self._heap, self._waiting
        while heap and waiting.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _forget_idle(self) -> None:
        if len(self._counters) <= 2 * MOST_IDLE + len(self._waiting):
            return
        idle = [name for name in self._counters if name not in self._waiting]
        idle.sort(key=self._counters.__getitem__)
        for name in idle[:-MOST_IDLE]:
            del self._counters[name]
