"""A pool under control, without clock, bus or network: time is a number."""

from collections.abc import Callable, Iterable
from typing import Any

from pointsman_common.endpoint import Endpoint
from pointsman_common.in_flight import LeaseTable
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_flow_controller.core.flow_controller import FlowController
from pointsman_flow_controller.core.flow_policy import BandPolicy, FlowPolicy
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.plugin_protocols import UsageLimitPolicy
from pointsman_flow_controller.core.queue_outcome import QueueExit, QueueOutcome
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from pointsman_flow_controller.plugins.ordering.first_come import FirstComeOrderingPolicy
from pointsman_flow_controller.plugins.saturation.concurrency import ConcurrencyDetector
from pointsman_flow_controller.plugins.usage_limits.static_limit import StaticUsageLimitPolicy


class ControlledPool:
    """One endpoint that holds `room` requests at once."""

    def __init__(self, *, room: int = 1, endpoints: int = 1, **policy: Any) -> None:
        self.now = 1_000.0
        self.leases = LeaseTable(provisional_ttl_s=1e9)
        self.left: list[tuple[str, QueueOutcome]] = []
        self.exits: dict[str, QueueExit] = {}
        self.evicted: list[str] = []
        self.controller = FlowController(
            POOL,
            self.policy(room=room, **policy),
            self.leases,
            on_exit=self.leave,
            make_blind_detector=lambda: ConcurrencyDetector(max_requests=1, max_tokens=1),
            now=self.now,
            on_evict=self.evicted.extend,
        )
        self.observe(an_endpoint(index + 1) for index in range(endpoints))

    def policy(
        self,
        *,
        room: int = 1,
        fairness: Callable[[], Any] = RoundRobinFairnessPolicy,
        ordering: Any = None,
        band_requests: int = 100,
        band_bytes: int = 100_000,
        usage_limit: UsageLimitPolicy | None = None,
        **rest: Any,
    ) -> FlowPolicy:
        band = BandPolicy(
            make_fairness=fairness,
            ordering=ordering or FirstComeOrderingPolicy(),
            max_requests=band_requests,
            max_bytes=band_bytes,
        )
        values: dict[str, Any] = {
            "make_detector": lambda: ConcurrencyDetector(max_requests=room, max_tokens=10**9),
            "make_usage_limit": StaticUsageLimitPolicy,
            "band": band,
            "negative_band": band,
            **rest,
        }
        if usage_limit is not None:
            values["make_usage_limit"] = lambda: usage_limit
        return FlowPolicy(**values)

    def observe(self, endpoints: Iterable[Endpoint]) -> None:
        self.controller.observe(list(endpoints), self.now)
        self.controller.dispatch(self.now)

    def ask(
        self, name: str, *, flow: str = "A", priority: int = 0, ttl_s: float = 60.0, **rest: Any
    ) -> QueuedRequest:
        values: dict[str, Any] = {
            "arrived_at": self.now,
            "no_endpoint_ttl_s": ttl_s,
            "body_bytes": 10,
            **rest,
        }
        request = QueuedRequest(
            lease_id=name, fairness_id=flow, priority=priority, ttl_s=ttl_s, **values
        )
        self.controller.admit(request, self.now)
        return request

    def finish(self, name: str) -> None:
        self.controller.finished(name, self.now)
        self.leases.finish(name)
        self.controller.dispatch(self.now)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.controller.expire(self.now)
        self.controller.dispatch(self.now)

    def order(self) -> list[str]:
        """Names of those that went, as they went; each is finished as soon as it goes."""
        seen = 0
        while seen < len(self.left):
            name, outcome = self.left[seen]
            seen += 1
            if outcome is QueueOutcome.DISPATCHED and name in self.leases:
                self.finish(name)
        return [name for name, outcome in self.left if outcome is QueueOutcome.DISPATCHED]

    def leave(self, request: QueuedRequest, way_out: QueueExit) -> None:
        self.left.append((request.lease_id, way_out.outcome))
        if request.lease_id in self.exits:
            raise AssertionError(f"{request.lease_id} left twice")
        self.exits[request.lease_id] = way_out


def exit_of(request: QueuedRequest) -> QueueExit:
    """How a request left; it must have."""
    if request.exit is None:
        raise AssertionError(f"{request.lease_id} still waits")
    return request.exit
