"""Tenants that send requests to several flow controllers before a pool of so many places."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from random import Random
from typing import Any

from pointsman_common.testing.builders import an_endpoint
from pointsman_flow_controller.core.flow_policy import BandPolicy, FlowPolicy
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.queue_outcome import QueueExit, QueueOutcome
from pointsman_flow_controller.plugins.fairness.virtual_token_counter import (
    WeightedTokenFairnessPolicy,
)
from pointsman_flow_controller.plugins.ordering.first_come import FirstComeOrderingPolicy
from pointsman_flow_controller.plugins.saturation.concurrency import ConcurrencyDetector
from pointsman_flow_controller.plugins.usage_limits.static_limit import StaticUsageLimitPolicy
from pointsman_flow_controller.testing.replica_group import ReplicaGroup


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    per_s: float
    """Requests; arrivals are a Poisson process."""
    prompt_tokens: int = 500
    output_tokens: int = 50
    priority: int = 0
    replica: int | None = None
    """The only one that it asks; `None`: any."""


class TenantWorld:
    """Virtual time, seeded. Each request holds its place for 10 ms and 2 ms per output token."""

    def __init__(
        self,
        *,
        replicas: int = 1,
        capacity: int = 32,
        fairness: Callable[[], Any] = WeightedTokenFairnessPolicy,
        seed: int = 1,
        ttl_s: float = 1e6,
        bus_delay_s: float = 0.002,
        **policy: Any,
    ) -> None:
        self.now, self.capacity = 0.0, capacity
        self.rng = Random(seed)
        self.waits: dict[str, list[float]] = defaultdict(list)
        """Seconds from arrival to dispatch, by tenant."""
        self.tokens: Counter[str] = Counter()
        """Weighted as the paper does, of what was dispatched, by tenant."""
        self.requests: Counter[str] = Counter()
        self.outcomes: Counter[QueueOutcome] = Counter()
        self.exits: Counter[str] = Counter()
        """By request: each must be 1."""
        self.asked = 0
        self.running = 0
        self.most_running = 0
        self.busy_s = 0.0
        """Places held, times the seconds that they were."""
        self._ttl_s = ttl_s
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()
        self._output: dict[str, int] = {}
        self._homes: dict[str, int | None] = {}
        self._policy = policy
        self.group = ReplicaGroup(
            replicas,
            partial(self.policy, fairness),
            [an_endpoint(1)],
            schedule=self.at,
            now=lambda: self.now,
            on_exit=self._left,
            bus_delay_s=bus_delay_s,
        )

    def policy(self, fairness: Callable[[], Any]) -> FlowPolicy:
        band = BandPolicy(fairness, FirstComeOrderingPolicy(), max_requests=10**6, max_bytes=10**12)
        values: dict[str, Any] = {
            "make_detector": lambda: ConcurrencyDetector(
                max_requests=self.capacity, max_tokens=10**9
            ),
            "make_usage_limit": StaticUsageLimitPolicy,
            "band": band,
            "negative_band": band,
            **self._policy,
        }
        return FlowPolicy(**values)

    def reload(self, index: int, fairness: Callable[[], Any]) -> None:
        """One replica goes on under another fairness policy, if it lives."""
        if not self.group.alive[index]:
            return
        self.group.controllers[index].reconfigure(self.policy(fairness), self.now)

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._due, (when, next(self._numbers), call, arguments))

    def send(self, tenant: Tenant, *, until: float) -> None:
        """Have a tenant send from now on."""
        when = self.now
        while (when := when + self.rng.expovariate(tenant.per_s)) < until:
            self.at(when, self._arrive, tenant)

    def burst(self, tenant: Tenant, requests: int) -> None:
        """Have a tenant send so many now."""
        for _ in range(requests):
            self.at(self.now, self._arrive, tenant)

    def run_until(self, when: float) -> None:
        while self._due and self._due[0][0] <= when:
            at, _, call, arguments = heapq.heappop(self._due)
            self.busy_s += self.running * (at - self.now)
            self.now = at
            call(*arguments)
        self.busy_s += self.running * (when - self.now)
        self.now = when

    def kill(self, index: int) -> int:
        """A replica is gone; what waited there is asked for again elsewhere, after 20 ms."""
        lost = self.group.kill(index)
        for request in lost:
            again = QueuedRequest(
                request.lease_id,
                fairness_id=request.fairness_id,
                priority=request.priority,
                prompt_tokens=request.prompt_tokens,
                body_bytes=request.body_bytes,
                arrived_at=request.arrived_at,
                ttl_s=request.ttl_s,
                no_endpoint_ttl_s=request.no_endpoint_ttl_s,
            )
            self.at(self.now + 0.02, self._ask, again)
        return len(lost)

    def wait_p(self, tenant: str, share: float = 0.99) -> float:
        waits = sorted(self.waits[tenant])
        return waits[min(int(share * len(waits)), len(waits) - 1)]

    def _arrive(self, tenant: Tenant) -> None:
        self.asked += 1
        lease_id = f"{tenant.name}/{self.asked}"
        self._output[lease_id] = max(1, round(self.rng.gauss(tenant.output_tokens, 5)))
        self._homes[lease_id] = tenant.replica
        self._ask(
            QueuedRequest(
                lease_id,
                fairness_id=tenant.name,
                priority=tenant.priority,
                prompt_tokens=tenant.prompt_tokens,
                body_bytes=tenant.prompt_tokens * 4,
                arrived_at=self.now,
                ttl_s=self._ttl_s,
                no_endpoint_ttl_s=self._ttl_s,
            )
        )

    def _ask(self, request: QueuedRequest) -> None:
        home = self._homes[request.lease_id]
        if home is None:
            home = self.rng.randrange(len(self.group.alive))
        self.group.admit(self.group.replica_alive(home), request)

    def _left(self, index: int, request: QueuedRequest, way_out: QueueExit) -> None:
        del index
        self.outcomes[way_out.outcome] += 1
        self.exits[request.lease_id] += 1
        if way_out.outcome is not QueueOutcome.DISPATCHED:
            return
        output = self._output[request.lease_id]
        self.waits[request.fairness_id].append(self.now - request.arrived_at)
        self.requests[request.fairness_id] += 1
        self.tokens[request.fairness_id] += request.prompt_tokens + 2 * output
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.at(self.now + 0.003, self._pick, request)
        self.at(self.now + 0.01 + 0.002 * output, self._finish, request.lease_id, output)

    def _pick(self, request: QueuedRequest) -> None:
        self.group.picked(
            request.lease_id,
            tokens=request.prompt_tokens,
            prefill_tokens=request.prompt_tokens,
            priority=request.priority,
        )

    def _finish(self, lease_id: str, output: int) -> None:
        self.running -= 1
        self.group.finished(lease_id, output_tokens=output, duration_s=0.01 + 0.002 * output)
