"""One pool's requests from admission to their way out. Single owner of the pool's queues.

    admit ──▶ dispatched                     there is room and nobody is ahead
      │─────▶ refused                        sheddable and full, or no place in the queue
      └─────▶ waiting ──▶ dispatched         its turn and room
                     ──▶ expired             its time is over
                     ──▶ displaced           a higher priority needed its place
                     ──▶ cancelled           the client went
                     ──▶ shut down           the replica ends

Each request leaves exactly once: `on_exit` is called with it, its `exit` set.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from pointsman_common.endpoint import Endpoint
from pointsman_common.in_flight import Lease, LeaseTable
from pointsman_flow_controller.core.admission import Occupancy, decide_admission
from pointsman_flow_controller.core.dispatch import next_exit
from pointsman_flow_controller.core.drain_rate import DrainRate
from pointsman_flow_controller.core.flow_policy import FlowPolicy
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.flow_registry import FlowRegistry
from pointsman_flow_controller.core.in_flight_ledger import InFlightLedger
from pointsman_flow_controller.core.plugin_protocols import SaturationDetector
from pointsman_flow_controller.core.pool_gate import PoolGate
from pointsman_flow_controller.core.priority_band import PriorityBand
from pointsman_flow_controller.core.queue_exit import PoolRegime, QueueExitDecision
from pointsman_flow_controller.core.queue_outcome import QueueExit, QueueOutcome

FLOW_IDLE_S = 300.0
BAND_IDLE_S = 600.0
PENDING = "pending:"
"""Prefix of the pseudo endpoint of a request that is let go and not yet picked for."""

_MOST_CHARGED = 65_536


class FlowController:
    def __init__(
        self,
        pool: str,
        policy: FlowPolicy,
        leases: LeaseTable,
        *,
        on_exit: Callable[[QueuedRequest, QueueExit], None],
        make_blind_detector: Callable[[], SaturationDetector],
        now: float,
    ) -> None:
        self.pool, self.policy = pool, policy
        self.ledger = InFlightLedger()
        self.gate = PoolGate(policy.make_detector, make_blind_detector, self.ledger)
        self.registry = FlowRegistry(policy, now)
        self.drain_rate = DrainRate(now)
        self._leases, self._on_exit = leases, on_exit
        self._make_blind = make_blind_detector
        self._endpoints: Sequence[Endpoint] | None = None
        self._let_go: OrderedDict[str, tuple[int, str]] = OrderedDict()
        """Priority and fairness id of what this replica has let go, by lease."""

    def admit(self, request: QueuedRequest, now: float) -> None:
        """Let a request go, refuse it or have it wait; see its `exit`."""
        request.queued_at = now
        if self.registry.flow(request, now) is None:
            self._leave(request, QueueOutcome.REJECTED_CAPACITY, now)
        elif not self.policy.queueing:
            self._admit_without_queue(request, now)
        elif self.registry.ahead_of(request.priority) or not self._has_room(request, now):
            self._admit_to_queue(request, now)
        else:
            self._let_go_now(request, now)

    def dispatch(self, now: float) -> None:
        """Let all go that fit; called whenever there may be more room."""
        registry, gate = self.registry, self.gate
        if not self.policy.queueing:
            for request in registry.waiting():
                self._let_go_now(request, now)
        while registry.requests:
            chosen = next_exit(registry, saturation=gate.saturation(now), now=now)
            if chosen is None:
                return
            if chosen.decision is QueueExitDecision.EXPIRE:
                self._leave(chosen.request, self._expired, now)
            else:
                self._let_go_now(chosen.request, now)

    def expire(self, now: float) -> None:
        """Have all leave whose time is over."""
        while (request := self.registry.next_expired(now)) is not None:
            self._leave(request, self._expired, now)

    def next_due(self) -> float | None:
        """When `expire` and `dispatch` have to be called, should nothing happen before.

        `None`: nothing waits, or only without end.
        """
        if not self.registry.requests:
            return None
        dues = (self.registry.next_expiry(), self.ledger.next_lapse())
        return min((due for due in dues if due is not None), default=None)

    def cancel(self, request: QueuedRequest, now: float) -> None:
        """The client went: a request that still waits gives its place up."""
        if request.waiting:
            self._leave(request, QueueOutcome.EVICTED_CONTEXT_CANCELLED, now)

    def shut_down(self, now: float) -> None:
        """Have all leave that wait."""
        for request in self.registry.waiting():
            self._leave(request, QueueOutcome.EVICTED_OTHER, now)

    def observe(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Take over the ready endpoints and their metrics."""
        first_look, self._endpoints = self._endpoints is None, endpoints
        self.gate.observe(endpoints, now)
        if first_look:
            self.registry.set_regime(PoolRegime(self.gate.empty))
        elif self.gate.empty != self.registry.regime.empty:
            self.registry.set_regime(PoolRegime(self.gate.empty, now))

    def reconfigure(self, policy: FlowPolicy, now: float) -> None:
        """Go on under another policy; what waits keeps its place in time."""
        blind = self.gate.blind
        self.policy = policy
        self.registry = self.registry.reconfigured(policy, now)
        self.gate = PoolGate(policy.make_detector, self._make_blind, self.ledger)
        self.gate.blind = blind
        self.gate.observe(self._endpoints or (), now)
        self.dispatch(now)

    def finished(self, lease_id: str, *, output_tokens: int) -> None:
        """A request is over: its flow is charged for what it took."""
        self.ledger.finished(lease_id)
        priority, fairness_id = self._let_go.pop(lease_id, (0, ""))
        band = self.registry.bands.get(priority)
        flow = band.flows.get(fairness_id) if band is not None else None
        if band is not None and flow is not None and output_tokens:
            flow.served_tokens += output_tokens
            band.served(fairness_id, output_tokens)

    def collect_idle(self, now: float) -> None:
        self.registry.collect_idle(now, flow_idle_s=FLOW_IDLE_S, band_idle_s=BAND_IDLE_S)

    @property
    def _expired(self) -> QueueOutcome:
        return QueueOutcome.EVICTED_NO_ENDPOINTS if self.gate.empty else QueueOutcome.EVICTED_TTL

    def _has_room(self, request: QueuedRequest, now: float) -> bool:
        ceiling = self.policy.usage_limit.ceiling(request.priority, self.registry.priorities)
        return self.gate.saturation(now) < ceiling

    def _admit_without_queue(self, request: QueuedRequest, now: float) -> None:
        full = not self.gate.empty and self.gate.saturation(now) >= 1.0
        if request.priority < 0 and full:
            self._leave(request, QueueOutcome.REJECTED_SATURATED, now)
        else:
            self._let_go_now(request, now)

    def _admit_to_queue(self, request: QueuedRequest, now: float) -> None:
        registry = self.registry
        band = registry.bands[request.priority]
        decision = decide_admission(
            body_bytes=request.body_bytes,
            sheddable=request.priority < 0,
            gate_closed=not self._has_room(request, now),
            pool_empty=self.gate.empty,
            band=_occupancy(band),
            total=Occupancy(
                registry.requests, registry.bytes, self.policy.max_requests, self.policy.max_bytes
            ),
            lower=Occupancy(*registry.below(request.priority)),
        )
        if isinstance(decision, QueueOutcome):
            self._leave(request, decision, now)
            return
        self._displace(request, decision.displace_requests, decision.displace_bytes, now)
        registry.enqueue(request, band, now)
        self.dispatch(now)

    def _displace(self, request: QueuedRequest, requests: int, some_bytes: int, now: float) -> None:
        """Make room: the lowest priority first, of it the newest first."""
        while requests > 0 or some_bytes > 0:
            band = self.registry.lowest_below(request.priority)
            victim = band.newest() if band is not None else None
            if victim is None:
                return
            requests, some_bytes = requests - 1, some_bytes - victim.body_bytes
            self._leave(victim, QueueOutcome.EVICTED_PRIORITY, now)

    def _let_go_now(self, request: QueuedRequest, now: float) -> None:
        lease_id = request.lease_id
        self._leases.reserve(
            Lease(
                lease_id=lease_id,
                edge="",
                pool=self.pool,
                endpoint=PENDING + self.pool,
                prompt_tokens=request.prompt_tokens,
                prefill_tokens=request.prompt_tokens,
                model=request.target_model,
                fairness_id=request.fairness_id,
                priority=request.priority,
            ),
            now,
        )
        if lease_id in self._leases:
            self.ledger.opened(lease_id, endpoint="", tokens=request.prompt_tokens, now=now)
        self._let_go[lease_id] = (request.priority, request.fairness_id)
        if len(self._let_go) > _MOST_CHARGED:
            self._let_go.popitem(last=False)
        self.drain_rate.count(now)
        self._leave(request, QueueOutcome.DISPATCHED, now)

    def _leave(self, request: QueuedRequest, outcome: QueueOutcome, now: float) -> None:
        went = outcome is QueueOutcome.DISPATCHED
        ahead = 0 if went else self.registry.ahead_of(request.priority)
        position = 0
        if request.waiting:
            position = 0 if went else self._position(request, outcome, ahead)
            self.registry.remove(request, now)
        band = self.registry.bands.get(request.priority)
        flow = band.flows.get(request.fairness_id) if band is not None else None
        if band is not None and flow is not None:
            if went:
                flow.dispatched += 1
                flow.served_tokens += request.prompt_tokens
                band.served(request.fairness_id, request.prompt_tokens)
            else:
                flow.left[outcome] += 1
        request.exit = QueueExit(
            outcome,
            queued_s=now - request.queued_at,
            unguarded=went and not self.policy.queueing,
            queue_position=position,
            estimated_wait_s=None if went else self.drain_rate.wait_s(ahead + 1, now),
        )
        self._on_exit(request, request.exit)

    def _position(self, request: QueuedRequest, outcome: QueueOutcome, ahead: int) -> int:
        """The displaced one was the last of its band; of others only the bands above are known to
        be ahead: to count within a band would cost as much as the band is long."""
        if outcome is QueueOutcome.EVICTED_PRIORITY:
            return ahead
        return self.registry.ahead_of(request.priority + 1) + 1


def _occupancy(band: PriorityBand) -> Occupancy:
    return Occupancy(band.requests, band.bytes, band.policy.max_requests, band.policy.max_bytes)
