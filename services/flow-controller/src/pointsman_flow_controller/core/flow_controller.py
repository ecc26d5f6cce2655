"""One pool's requests from admission to their way out. Single owner of the pool's queues.

    admit ──▶ dispatched                     there is room and nobody is ahead
      │─────▶ refused                        over a limit, sheddable and full, or no place
      └─────▶ waiting ──▶ dispatched         its turn, room, and this replica's share of it
                     ──▶ expired             its time is over
                     ──▶ displaced           a higher priority needed its place
                     ──▶ cancelled           the client went
                     ──▶ shut down           the replica ends

Each request leaves exactly once: `on_exit` is called with it, its `exit` set.
"""

from collections.abc import Callable, Sequence

from pointsman_common.endpoint import Endpoint
from pointsman_common.in_flight import Lease, LeaseTable
from pointsman_flow_controller.core.admission import Occupancy, decide_admission
from pointsman_flow_controller.core.dispatch import next_request
from pointsman_flow_controller.core.drain_rate import DrainRate
from pointsman_flow_controller.core.flow_accounting import FlowAccounting
from pointsman_flow_controller.core.flow_policy import FlowPolicy
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.flow_registry import FlowRegistry
from pointsman_flow_controller.core.in_flight_eviction import InFlightEviction
from pointsman_flow_controller.core.in_flight_ledger import InFlightLedger
from pointsman_flow_controller.core.peer_exchange import PeerExchange
from pointsman_flow_controller.core.plugin_protocols import SaturationDetector
from pointsman_flow_controller.core.pool_gate import PoolGate
from pointsman_flow_controller.core.priority_band import PriorityBand
from pointsman_flow_controller.core.queue_exit import (
    PoolRegime,
    QueueExitDecision,
    decide_queue_exit,
    expires_at,
)
from pointsman_flow_controller.core.queue_outcome import AT_ONCE, QueueExit, QueueOutcome
from pointsman_flow_controller.core.share_board import FlowDemand

FLOW_IDLE_S = 300.0
BAND_IDLE_S = 600.0
PENDING = "pending:"
"""Prefix of the pseudo endpoint of a request that is let go and not yet picked for."""

EMPTY_RETRY_S = 10.0
"""When to come again while the pool has no endpoint: one takes longer than that to start."""


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
        replica: str = "",
        on_evict: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        """`replica` is the name by which others hear of this one; `on_evict` is told of the leases
        that their edges are to end."""
        self.pool, self.policy, self._pending = pool, policy, PENDING + pool
        self.ledger = InFlightLedger()
        self.gate = PoolGate(policy.make_detector, make_blind_detector, self.ledger)
        self.registry = FlowRegistry(policy, now)
        self.usage_limit = policy.make_usage_limit()
        self.drain_rate = DrainRate(now)
        self.peers = PeerExchange(replica, self._weigh)
        self.eviction = InFlightEviction()
        self.accounting = FlowAccounting(self.registry, self.usage_limit, self.peers.tally)
        self._leases, self._on_exit, self._on_evict = leases, on_exit, on_evict
        self._make_blind = make_blind_detector
        self._endpoints: Sequence[Endpoint] | None = None

    def admit(self, request: QueuedRequest, now: float) -> None:
        """Let a request go, refuse it or have it wait; see its `exit`."""
        request.queued_at = now
        flow = request.flow = self.registry.flow(request, now)
        if flow is None:
            self._leave(request, QueueOutcome.REJECTED_CAPACITY, now)
            return
        request.expected_output_tokens = self.accounting.expected_output_tokens(request, flow)
        limited_s = self.accounting.taken(request, now)
        if limited_s > 0.0:
            self._leave(request, QueueOutcome.REJECTED_LIMIT, now, estimate_s=limited_s)
        elif not self.policy.queueing:
            self._admit_without_queue(request, now)
        elif self._somebody_is_ahead(request.priority) or not self._has_room(request, now):
            self._admit_to_queue(request, now)
        else:
            self._let_go_now(request, now)

    def dispatch(self, now: float) -> None:
        """Let all go that fit; called whenever there may be more room."""
        if not self.policy.queueing:
            for request in self.registry.waiting():
                self._let_go_now(request, now)
        registry, gate = self.registry, self.gate
        contested = self.peers.contested(now)
        while (chosen := next_request(registry)) is not None:
            band, head = chosen
            ceiling = self.usage_limit.ceiling(band.priority, registry.priorities)
            decision = decide_queue_exit(
                now=now,
                expires_at=expires_at(head, registry.regime),
                saturation=gate.known_saturation(now) if contested else gate.saturation(now),
                ceiling=ceiling,
            )
            if decision is QueueExitDecision.EXPIRE:
                self._leave(head, self._expired, now)
            elif decision is QueueExitDecision.WAIT:
                self.peers.share.none_left()
                self._make_room(band, now)
                return
            elif not contested or self._is_ours(band, head, ceiling, now):
                self._let_go_now(head, now)
            else:
                return

    def expire(self, now: float) -> None:
        """Have all leave whose time is over."""
        while (request := self.registry.next_expired(now)) is not None:
            self._leave(request, self._expired, now)

    def next_due(self, now: float) -> float | None:
        """When `expire` and `dispatch` have to be called, should nothing happen before.

        `None`: nothing waits, or only without end. What was due by `now` has been looked at.
        """
        if not self.registry.requests:
            return None
        due = self.registry.next_expiry()
        for look in (
            self.ledger.next_lapse(),
            self.peers.next_look(),
            self.eviction.next_choice(),
        ):
            if look is not None and look > now and (due is None or look < due):
                due = look
        return due

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
        blind, peers = self.gate.blind, self.gate.peers
        self.policy = policy
        self.registry = self.accounting.registry = self.registry.reconfigured(policy, now)
        usage_limit = policy.make_usage_limit()
        usage_limit.inherit(self.usage_limit)
        self.usage_limit = self.accounting.usage_limit = usage_limit
        self.gate = PoolGate(policy.make_detector, self._make_blind, self.ledger)
        self.gate.blind, self.gate.peers = blind, peers
        self.gate.observe(self._endpoints or (), now)
        self.peers.reweigh()
        self.dispatch(now)

    def finished(
        self,
        lease_id: str,
        now: float,
        *,
        prompt_tokens: int | None = None,
        cached_tokens: int | None = None,
        output_tokens: int | None = None,
        duration_s: float | None = None,
    ) -> None:
        """A request, of whatever replica, is over; `None` is what the engine did not tell."""
        self.ledger.finished(lease_id)
        if duration_s:
            self.drain_rate.finished(duration_s)
        self.accounting.finished(
            lease_id,
            now,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            output_tokens=output_tokens,
        )

    def heard_from(
        self, replica: str, epoch: int, flows: Sequence[FlowDemand], *, whole: bool, now: float
    ) -> None:
        """Another replica tells of its demand and service; see FlowShares in flow.proto."""
        services = self.peers.hear(replica, epoch, flows, whole=whole, now=now)
        self.accounting.served_elsewhere(services, now)
        self.gate.peers = self.peers.serving(now)

    def look_for_peers(self, now: float) -> None:
        """About once a second: see who is not heard any more."""
        self.peers.forget_silent(now)
        self.gate.peers = self.peers.serving(now)

    def collect_idle(self, now: float) -> None:
        self.registry.collect_idle(now, flow_idle_s=FLOW_IDLE_S, band_idle_s=BAND_IDLE_S)

    @property
    def _expired(self) -> QueueOutcome:
        return QueueOutcome.EVICTED_NO_ENDPOINTS if self.gate.empty else QueueOutcome.EVICTED_TTL

    def _weigh(self, priority: int, fairness_id: str, queued: int) -> float:
        band = self.registry.bands.get(priority)
        return 1.0 if band is None else band.fairness.weight(fairness_id, queued)

    def _somebody_is_ahead(self, priority: int) -> bool:
        registry = self.registry
        if registry.requests and registry.ahead_of(priority):
            return True
        return self.peers.is_ahead(priority)

    def _has_room(self, request: QueuedRequest, now: float) -> bool:
        ceiling = self.usage_limit.ceiling(request.priority, self.registry.priorities)
        return self.gate.saturation(now) < ceiling

    def _is_ours(self, band: PriorityBand, head: QueuedRequest, ceiling: float, now: float) -> bool:
        return self.peers.share.may_go(
            band.priority,
            waiting=band.requests,
            ceiling=ceiling,
            room=lambda most: self.gate.room(head, most, ceiling, now),
            elsewhere=self.ledger.opened_elsewhere,
            now=now,
        )

    def _make_room(self, band: PriorityBand, now: float) -> None:
        """A full pool holds a band back: what runs at negative priority may have to end."""
        if self.policy.evicts_in_flight and band.priority >= 0 and not self.gate.empty:
            leases = self.eviction.choose(self.ledger.sheddable, blocked=band.requests, now=now)
            if leases:
                self._on_evict(leases)

    def _admit_without_queue(self, request: QueuedRequest, now: float) -> None:
        full = not self.gate.empty and self.gate.saturation(now) >= 1.0
        if request.priority < 0 and full:
            self._leave(request, QueueOutcome.REJECTED_SATURATED, now)
        else:
            self._let_go_now(request, now)

    def _admit_to_queue(self, request: QueuedRequest, now: float) -> None:
        registry = self.registry
        band = registry.bands[request.priority]
        is_shed = request.priority < 0 and (
            self.peers.is_ahead(request.priority) or not self._has_room(request, now)
        )
        decision = decide_admission(
            body_bytes=request.body_bytes,
            sheddable=request.priority < 0,
            gate_closed=is_shed,
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
        self.accounting.entered(request)
        if registry.highest() is band and band.head() is request:
            self.dispatch(now)  # else what is before it has not fitted either

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
        lease_id, prompt_tokens = request.lease_id, request.prompt_tokens
        self._leases.reserve(
            Lease(
                lease_id=lease_id,
                edge="",
                pool=self.pool,
                endpoint=self._pending,
                prompt_tokens=prompt_tokens,
                prefill_tokens=prompt_tokens,
                model=request.target_model,
                fairness_id=request.fairness_id,
                priority=request.priority,
                provisional=True,
                opened_at=now,
            ),
            now,
        )
        if lease_id in self._leases:
            self.ledger.opened(
                lease_id,
                endpoint="",
                tokens=prompt_tokens + request.expected_output_tokens,
                prefill_tokens=prompt_tokens,
                now=now,
                priority=request.priority,
            )
        self.drain_rate.count(now)
        self.peers.share.took()
        self._leave(request, QueueOutcome.DISPATCHED, now)

    def _leave(
        self,
        request: QueuedRequest,
        outcome: QueueOutcome,
        now: float,
        *,
        estimate_s: float | None = None,
    ) -> None:
        """Take a request out, and count and tell of it; `estimate_s` goes before the usual one."""
        if outcome is QueueOutcome.DISPATCHED:
            queued_s, unguarded = now - request.queued_at, not self.policy.queueing
            way_out = AT_ONCE
            if queued_s or unguarded:
                way_out = QueueExit(outcome, queued_s=queued_s, unguarded=unguarded)
            if request.waiting:
                self.registry.remove(request)
            self.accounting.dispatched(request, now)
        else:
            way_out = self._refusal(request, outcome, estimate_s, now)
            if request.waiting:
                self.registry.remove(request)
            self.accounting.refused(request, outcome, now)
        request.exit = way_out
        self._on_exit(request, way_out)

    def _refusal(
        self, request: QueuedRequest, outcome: QueueOutcome, estimate_s: float | None, now: float
    ) -> QueueExit:
        ahead = self.registry.ahead_of(request.priority)
        position = 0
        if request.waiting:
            position = self._position(request, outcome, ahead)
            ahead -= 1
        if estimate_s is None and self.gate.empty:
            estimate_s = EMPTY_RETRY_S
        elif estimate_s is None:
            share = self.peers.board.share(request.priority)
            running = share * self.ledger.load.requests
            estimate_s = self.drain_rate.wait_s(ahead + 1, now, running=running)
        return QueueExit(
            outcome,
            queued_s=now - request.queued_at,
            queue_position=position,
            estimated_wait_s=estimate_s,
        )

    def _position(self, request: QueuedRequest, outcome: QueueOutcome, ahead: int) -> int:
        """The displaced one was the last of its band; of others only the bands above are known to
        be ahead: to count within a band would cost as much as the band is long."""
        if outcome is QueueOutcome.EVICTED_PRIORITY:
            return ahead
        return self.registry.ahead_of(request.priority + 1) + 1


def _occupancy(band: PriorityBand) -> Occupancy:
    return Occupancy(band.requests, band.bytes, band.policy.max_requests, band.policy.max_bytes)
