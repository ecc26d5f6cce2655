"""The bands and flows of one pool: what waits, how much, and for how long.

Bands that the policy does not name come into being with their first request. Flows and bands that
are idle for long are collected.
"""

import heapq
from bisect import insort

from pointsman_flow_controller.core.flow_policy import FlowPolicy
from pointsman_flow_controller.core.flow_queue import FlowQueue, QueuedRequest
from pointsman_flow_controller.core.priority_band import PriorityBand
from pointsman_flow_controller.core.queue_exit import PoolRegime, expires_at

MOST_BANDS = 256
"""Priorities come from outside; a band beyond these is refused while none can be collected."""

MOST_IDLE_FLOWS = 16_384
"""Fairness ids come from clients; beyond these the longest idle are forgotten."""


class FlowRegistry:
    def __init__(self, policy: FlowPolicy, now: float) -> None:
        self.policy = policy
        self.regime = PoolRegime()
        self.bands: dict[int, PriorityBand] = {}
        self.priorities: list[int] = []
        """Of all bands, highest first."""
        self.requests = 0
        self.bytes = 0
        self._number = 0
        self._expiries: list[tuple[float, int, QueuedRequest]] = []
        self._flows = 0
        for priority in policy.bands:
            self._add_band(priority, now)

    def band(self, priority: int, now: float) -> PriorityBand | None:
        """The band of a priority, made where it is new; `None` when there are too many."""
        found = self.bands.get(priority)
        if found is not None:
            return found
        if len(self.bands) >= MOST_BANDS:
            self.collect_idle(now, flow_idle_s=0.0, band_idle_s=0.0)
            if len(self.bands) >= MOST_BANDS:
                return None
        return self._add_band(priority, now)

    def enqueue(self, request: QueuedRequest, band: PriorityBand, now: float) -> FlowQueue:
        self._number += 1
        return self._enter(request, band, self._number, now)

    def remove(self, request: QueuedRequest) -> None:
        """Take out a waiting request."""
        self.bands[request.priority].remove(request)
        self.requests -= 1
        self.bytes -= request.body_bytes
        if len(self._expiries) > 2 * self.requests + 16:
            self._expiries = [entry for entry in self._expiries if entry[2].waiting]
            heapq.heapify(self._expiries)

    def highest(self) -> PriorityBand | None:
        """The highest band in which something waits."""
        if self.requests:
            for priority in self.priorities:
                if self.bands[priority].requests:
                    return self.bands[priority]
        return None

    def ahead_of(self, priority: int) -> int:
        """Waiting requests of this priority and of higher ones."""
        if not self.requests:
            return 0
        return sum(self.bands[p].requests for p in self.priorities if p >= priority)

    def below(self, priority: int) -> tuple[int, int]:
        """Waiting requests of lower priorities, and their bytes."""
        bands = [self.bands[p] for p in self.priorities if p < priority]
        return sum(band.requests for band in bands), sum(band.bytes for band in bands)

    def lowest_below(self, priority: int) -> PriorityBand | None:
        """The lowest band below a priority in which something waits."""
        for candidate in reversed(self.priorities):
            if candidate >= priority:
                return None
            if self.bands[candidate].requests:
                return self.bands[candidate]
        return None

    def next_expiry(self) -> float | None:
        """When the next wait is over; `None` when none has an end."""
        while self._expiries and not self._expiries[0][2].waiting:
            heapq.heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else None

    def next_expired(self, now: float) -> QueuedRequest | None:
        """A waiting request whose time is over. It still waits: remove it to see the next."""
        due = self.next_expiry()
        return self._expiries[0][2] if due is not None and due <= now else None

    def set_regime(self, regime: PoolRegime) -> None:
        """The pool has become empty, or stopped being so: all limits are counted anew."""
        self.regime = regime
        self._expiries = []
        for band in self.bands.values():
            for request in band.waiting():
                self._schedule(request)

    def waiting(self) -> list[QueuedRequest]:
        """All that wait, highest band first, within a band as they came."""
        return [request for p in self.priorities for request in self.bands[p].waiting()]

    def flow(self, request: QueuedRequest, now: float) -> FlowQueue | None:
        """The flow of a request, made where it is new; `None` when there are too many bands."""
        band = self.band(request.priority, now)
        if band is None:
            return None
        if request.fairness_id not in band.flows:
            self._flows += 1
            if self._flows > self.requests + MOST_IDLE_FLOWS:
                self._forget_idle_flows()
        return band.flow(request.fairness_id, now)

    def collect_idle(self, now: float, *, flow_idle_s: float, band_idle_s: float) -> None:
        """Drop the flows, and the bands that the policy does not name, idle for that long."""
        for priority in list(self.priorities):
            band = self.bands[priority]
            band.collect_idle(now - flow_idle_s)
            named = priority in self.policy.bands
            if not named and not band.flows and band.active_at <= now - band_idle_s:
                del self.bands[priority]
                self.priorities.remove(priority)
        self._flows = sum(len(band.flows) for band in self.bands.values())

    def reconfigured(self, policy: FlowPolicy, now: float) -> "FlowRegistry":
        """The same flows and waiting requests under another policy.

        Nothing that waits is turned away, even where the new bounds are lower.
        """
        new = FlowRegistry(policy, now)
        new.regime, new._number = self.regime, self._number
        for priority, old in self.bands.items():
            band = new._add_band(priority, now, old)
            for request in old.waiting():
                request.flow = None  # of the band before
                new._enter(request, band, request.order[2], now)
            for name, flow in old.flows.items():
                band.flow(name, now).take_counters(flow)
        new._flows = self._flows
        return new

    def _forget_idle_flows(self) -> None:
        idle = sorted(
            flow.active_at
            for band in self.bands.values()
            for flow in band.flows.values()
            if not flow.requests
        )
        for band in self.bands.values():
            band.collect_idle(idle[len(idle) // 2])
        self._flows = sum(len(band.flows) for band in self.bands.values())

    def _enter(
        self, request: QueuedRequest, band: PriorityBand, number: int, now: float
    ) -> FlowQueue:
        flow = request.flow = band.enqueue(request, number, now)
        self.requests += 1
        self.bytes += request.body_bytes
        self._schedule(request)
        return flow

    def _add_band(
        self, priority: int, now: float, previous: PriorityBand | None = None
    ) -> PriorityBand:
        if priority not in self.bands:
            insort(self.priorities, priority, key=lambda value: -value)
        band = PriorityBand(priority, self.policy.band_policy(priority), now, previous)
        self.bands[priority] = band
        return band

    def _schedule(self, request: QueuedRequest) -> None:
        due = expires_at(request, self.regime)
        if due < float("inf"):
            heapq.heappush(self._expiries, (due, request.order[2], request))
