"""The waiting requests of one flow, best first.

A flow is a fairness id within a priority. What is best is the band's ordering policy's business:
it ranks a request once, when it enters.
"""

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field

from pointsman_flow_controller.core.queue_outcome import QueueExit, QueueOutcome
from pointsman_flow_controller.core.wait_times import WaitTimes

Order = tuple[float, float, int]
"""Rank, arrival and number of a request: smaller goes first. Never the same for two requests."""


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """One request on its way through. Times are monotonic seconds of this replica."""

    lease_id: str
    fairness_id: str = "default-flow"
    priority: int = 0
    body_bytes: int = 0
    prompt_tokens: int = 0
    max_output_tokens: int = 0
    """As the client asked; 0: it did not."""
    arrived_at: float = 0.0
    """At the edge: a request that is asked again elsewhere keeps its place in time."""
    ttl_s: float = math.inf
    no_endpoint_ttl_s: float = math.inf
    """The same while the pool is empty."""
    ttft_slo_s: float | None = None
    model: str = ""
    target_model: str = ""
    expected_output_tokens: int = 0
    """What the flow's latest answers let expect."""
    queued_at: float = 0.0
    """When it came to this replica."""
    order: Order = (0.0, 0.0, 0)
    waiting: bool = False
    flow: "FlowQueue | None" = None
    """Its flow, once it was admitted; `None`: there was no place for one."""
    exit: QueueExit | None = None
    """Set when it has left, once."""


@dataclass(slots=True, eq=False)
class FlowQueue:
    """Push and remove cost O(log n); what was removed leaves the heap later, in bulk or at the top.

    The counters live as long as the flow and tell what became of its requests.
    """

    fairness_id: str
    requests: int = 0
    bytes: int = 0
    dispatched: int = 0
    prompt_tokens: int = 0
    """Charged for what was dispatched here; see `service_accounts.py`."""
    output_tokens: int = 0
    mean_output_tokens: float | None = None
    """Of its latest answers, at all replicas; `None`: no answer yet."""
    left: Counter[QueueOutcome] = field(default_factory=Counter[QueueOutcome])
    """Outcomes other than dispatch."""
    waits: WaitTimes = field(default_factory=WaitTimes)
    active_at: float = 0.0
    """When a request last came or left."""
    _heap: list[tuple[Order, QueuedRequest]] = field(
        default_factory=list[tuple[Order, QueuedRequest]]
    )

    @property
    def served_tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens

    def push(self, request: QueuedRequest) -> None:
        request.waiting = True
        heapq.heappush(self._heap, (request.order, request))
        self.requests += 1
        self.bytes += request.body_bytes

    def head(self) -> QueuedRequest | None:
        """The request that is next in this flow."""
        heap = self._heap
        while heap and not heap[0][1].waiting:
            heapq.heappop(heap)
        return heap[0][1] if heap else None

    def remove(self, request: QueuedRequest) -> None:
        """Take out a request from wherever it stands; it must be waiting here."""
        request.waiting = False
        self.requests -= 1
        self.bytes -= request.body_bytes
        if len(self._heap) > 2 * self.requests + _SPARE:
            self._heap = [entry for entry in self._heap if entry[1].waiting]
            heapq.heapify(self._heap)

    def take_counters(self, other: "FlowQueue") -> None:
        """Go on counting where another queue of the same flow stopped."""
        self.dispatched, self.mean_output_tokens = other.dispatched, other.mean_output_tokens
        self.prompt_tokens, self.output_tokens = other.prompt_tokens, other.output_tokens
        self.left, self.waits, self.active_at = other.left, other.waits, other.active_at


_SPARE = 16
