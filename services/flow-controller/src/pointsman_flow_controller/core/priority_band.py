"""One priority: its flows, whose turn it is, and how much may wait."""

from collections import Counter, OrderedDict

from pointsman_flow_controller.core.flow_policy import BandPolicy
from pointsman_flow_controller.core.flow_queue import FlowQueue, Order, QueuedRequest
from pointsman_flow_controller.core.queue_outcome import QueueOutcome
from pointsman_flow_controller.core.wait_times import WaitTimes


class PriorityBand:
    """Owns its flows. Every change is O(log n) in the waiting requests of a flow."""

    def __init__(
        self,
        priority: int,
        policy: BandPolicy,
        now: float,
        previous: "PriorityBand | None" = None,
    ) -> None:
        """`previous` is the band of this priority under the policy before."""
        self.priority, self.policy = priority, policy
        self.flows: dict[str, FlowQueue] = {}
        self.requests = 0
        self.bytes = 0
        self.active_at = now
        self.dispatched = 0
        self.left: Counter[QueueOutcome] = Counter()
        """Outcomes other than dispatch."""
        self.waits = WaitTimes()
        self.fairness = policy.make_fairness()
        self._heads: dict[str, Order] = {}
        self._entered: OrderedDict[int, QueuedRequest] = OrderedDict()
        """The waiting requests as they came to this replica, by their number."""
        if previous is not None:
            self.active_at = previous.active_at
            self.dispatched, self.left = previous.dispatched, previous.left
            self.waits = previous.waits
            self.fairness.inherit(previous.fairness)

    def flow(self, fairness_id: str, now: float) -> FlowQueue:
        """The flow, made where it is new."""
        self.active_at = now
        found = self.flows.get(fairness_id)
        if found is None:
            found = self.flows[fairness_id] = FlowQueue(fairness_id)
        found.active_at = now
        return found

    def enqueue(self, request: QueuedRequest, number: int, now: float) -> FlowQueue:
        """`number` is unique and grows with each request of the pool."""
        rank = self.policy.ordering.rank(request)
        request.order = (rank, request.arrived_at, number)
        flow = request.flow or self.flow(request.fairness_id, now)
        flow.push(request)
        self.requests += 1
        self.bytes += request.body_bytes
        self._entered[number] = request
        self._tell_head(flow)
        return flow

    def remove(self, request: QueuedRequest) -> None:
        """Take out a waiting request; it needs not be the next one."""
        flow = request.flow or self.flows[request.fairness_id]
        flow.remove(request)
        self.requests -= 1
        self.bytes -= request.body_bytes
        del self._entered[request.order[2]]
        if self._heads.get(flow.fairness_id) == request.order:
            self._tell_head(flow)

    def head(self) -> QueuedRequest | None:
        """The request whose turn it is."""
        flow = self.fairness.next_flow()
        return None if flow is None else self.flows[flow].head()

    def newest(self) -> QueuedRequest | None:
        """The waiting request that came last."""
        return next(reversed(self._entered.values()), None)

    def waiting(self) -> list[QueuedRequest]:
        """All that wait, as they came."""
        return list(self._entered.values())

    def collect_idle(self, before: float) -> int:
        """Drop the flows that have been empty since `before`; returns how many."""
        idle = [
            name
            for name, flow in self.flows.items()
            if not flow.requests and flow.active_at <= before
        ]
        for name in idle:
            del self.flows[name]
        return len(idle)

    def _tell_head(self, flow: FlowQueue) -> None:
        head = flow.head()
        order = None if head is None else head.order
        name = flow.fairness_id
        if order == self._heads.get(name):
            return
        if order is None:
            del self._heads[name]
        else:
            self._heads[name] = order
        self.fairness.head_changed(name, order)
