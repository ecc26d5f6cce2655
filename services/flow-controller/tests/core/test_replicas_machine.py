"""Several replicas under any interleaving of arrivals, ends, cancels, time limits, reloads, cuts of
the bus and deaths: each request leaves once, strictly by priority and in order, and nobody starves.
"""

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.queue_outcome import QueueExit, QueueOutcome
from pointsman_flow_controller.plugins.fairness.global_strict import GlobalStrictFairnessPolicy
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from pointsman_flow_controller.plugins.fairness.virtual_token_counter import (
    WeightedTokenFairnessPolicy,
)
from pointsman_flow_controller.testing.tenants import Tenant, TenantWorld

FAIRNESS = st.sampled_from(
    [RoundRobinFairnessPolicy, GlobalStrictFairnessPolicy, WeightedTokenFairnessPolicy]
)
REPLICAS, CAPACITY, TTL_S = 3, 4, 30.0
REQUEST_S = 0.13


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = TenantWorld(replicas=REPLICAS, capacity=CAPACITY, ttl_s=TTL_S)
        self.refuse_disorder(self.world)

    def refuse_disorder(self, world: TenantWorld) -> None:
        told = world.group._on_exit

        def check(index: int, request: QueuedRequest, way_out: QueueExit) -> None:
            if way_out.outcome is QueueOutcome.DISPATCHED:
                here = world.group.controllers[index].registry.waiting()
                assert all(other.priority <= request.priority for other in here)
                flow = (request.priority, request.fairness_id)
                same = [o for o in here if (o.priority, o.fairness_id) == flow]
                queued = request.order[2] > 0
                assert not queued or all(request.arrived_at <= o.arrived_at for o in same)
            told(index, request, way_out)

        world.group._on_exit = check

    @rule(
        tenant=st.sampled_from("ABC"),
        priority=st.sampled_from([-1, 0, 5]),
        requests=st.integers(1, 8),
    )
    def arrive(self, tenant: str, priority: int, requests: int) -> None:
        self.world.burst(Tenant(tenant, 1.0, priority=priority, output_tokens=50), requests)
        self.world.run_until(self.world.now + 0.001)

    @rule(seconds=st.floats(0.001, 0.6))
    def advance(self, seconds: float) -> None:
        self.world.run_until(self.world.now + seconds)

    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        waiting = [
            (controller, request)
            for index, controller in enumerate(self.world.group.controllers)
            if self.world.group.alive[index]
            for request in controller.registry.waiting()
        ]
        if waiting:
            controller, request = waiting[which % len(waiting)]
            controller.cancel(request, self.world.now)

    @rule(fairness=FAIRNESS, index=st.integers(0, REPLICAS - 1))
    def reload(self, fairness: Any, index: int) -> None:
        self.world.reload(index, fairness)

    @precondition(lambda self: sum(self.world.group.alive) > 1)
    @rule(index=st.integers(0, REPLICAS - 1))
    def die(self, index: int) -> None:
        if self.world.group.alive[index]:
            self.world.kill(index)

    @rule(index=st.integers(0, REPLICAS - 1))
    def cut_off(self, index: int) -> None:
        self.world.group.partitioned.add(index)

    @rule()
    def heal(self) -> None:
        self.world.group.heal()

    @invariant()
    def nobody_leaves_twice(self) -> None:
        assert not self.world.exits or max(self.world.exits.values()) == 1

    @invariant()
    def the_sums_are_right(self) -> None:
        for controller in self.world.group.controllers:
            registry = controller.registry
            counted = Counter(request.priority for request in registry.waiting())
            assert registry.requests == sum(counted.values())
            assert {p: b.requests for p, b in registry.bands.items() if b.requests} == counted

    def teardown(self) -> None:
        """Left alone, all that waits is served: nobody starves, and nobody is lost."""
        self.world.group.heal()
        left = self.world.group.waiting + len(self.world._due)
        self.world.run_until(self.world.now + 2.0 + left * REQUEST_S)
        assert self.world.group.waiting == 0
        assert sum(self.world.exits.values()) == self.world.asked


@pytest.mark.timeout(300)
def test_the_rules_hold_for_replicas_under_any_interleaving() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=40, stateful_step_count=30, deadline=None),
    )
