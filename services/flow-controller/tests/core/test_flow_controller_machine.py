"""Any interleaving of arrivals, ends, cancels, time, pool changes and reloads keeps the rules."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pointsman_common.testing.builders import an_endpoint
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.queue_outcome import QueueExit, QueueOutcome
from pointsman_flow_controller.plugins.fairness.global_strict import GlobalStrictFairnessPolicy
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from pointsman_flow_controller.plugins.fairness.virtual_token_counter import (
    WeightedTokenFairnessPolicy,
)
from pointsman_flow_controller.testing.controlled_pool import ControlledPool

FAIRNESS = st.sampled_from(
    [RoundRobinFairnessPolicy, GlobalStrictFairnessPolicy, WeightedTokenFairnessPolicy]
)
BAND_REQUESTS, BAND_BYTES, ALL_REQUESTS, ALL_BYTES = 4, 100, 7, 150
ROOM = 2


def machine_of() -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            bounds = {
                "room": ROOM,
                "band_requests": BAND_REQUESTS,
                "band_bytes": BAND_BYTES,
                "max_requests": ALL_REQUESTS,
                "max_bytes": ALL_BYTES,
            }
            self.bounds: dict[str, Any] = bounds
            self.pool = ControlledPool(**bounds)
            self.asked: list[QueuedRequest] = []
            self.endpoints = 1
            self.pool.controller._on_exit = self.leaves

        def leaves(self, request: QueuedRequest, way_out: QueueExit) -> None:
            self.pool.leave(request, way_out)
            if way_out.outcome is not QueueOutcome.DISPATCHED:
                return
            waiting = self.pool.controller.registry.waiting()
            assert all(other.priority <= request.priority for other in waiting)
            flow = (request.priority, request.fairness_id)
            in_flow = [
                other.arrived_at
                for other in waiting
                if (other.priority, other.fairness_id) == flow and other is not request
            ]
            queued = request.order[2] > 0
            assert not queued or all(request.arrived_at <= at for at in in_flow)

        @rule(
            flow=st.sampled_from("AB"),
            priority=st.sampled_from([-1, 0, 1]),
            body=st.integers(1, 40),
            ttl_s=st.floats(0.5, 20),
            age_s=st.floats(0, 0.4),
        )
        def ask(self, flow: str, priority: int, body: int, ttl_s: float, age_s: float) -> None:
            self.asked.append(
                self.pool.ask(
                    f"r{len(self.asked)}",
                    flow=flow,
                    priority=priority,
                    body_bytes=body,
                    ttl_s=ttl_s,
                    arrived_at=self.pool.now - age_s,
                )
            )

        @rule(which=st.integers(0, 1_000))
        def finish(self, which: int) -> None:
            running = [item.lease_id for item in self.asked if item.lease_id in self.pool.leases]
            if running:
                self.pool.finish(running[which % len(running)])

        @rule(which=st.integers(0, 1_000))
        def cancel(self, which: int) -> None:
            if self.asked:
                request = self.asked[which % len(self.asked)]
                self.pool.controller.cancel(request, self.pool.now)

        @rule(seconds=st.floats(0, 8))
        def advance(self, seconds: float) -> None:
            self.pool.advance(seconds)
            assert all(
                self.pool.controller.registry.regime.empty
                or item.arrived_at + item.ttl_s > self.pool.now
                for item in self.asked
                if item.waiting
            )

        @rule(endpoints=st.integers(0, 2))
        def change_pool(self, endpoints: int) -> None:
            self.endpoints = endpoints
            self.pool.observe([an_endpoint(index + 1) for index in range(endpoints)])

        @rule(fairness=FAIRNESS)
        def reload(self, fairness: Any) -> None:
            policy = self.pool.policy(fairness=fairness, **self.bounds)
            self.pool.controller.reconfigure(policy, self.pool.now)

        @rule()
        def shut_down(self) -> None:
            self.pool.controller.shut_down(self.pool.now)
            assert self.pool.controller.registry.requests == 0

        @invariant()
        def each_has_left_once_or_waits(self) -> None:
            for request in self.asked:
                assert (request.exit is None) == request.waiting
                assert (request.lease_id in self.pool.exits) == (request.exit is not None)

        @invariant()
        def bounds_hold_and_sums_are_right(self) -> None:
            registry = self.pool.controller.registry
            waiting = [item for item in self.asked if item.waiting]
            assert registry.requests == len(waiting) <= ALL_REQUESTS
            assert registry.bytes == sum(item.body_bytes for item in waiting) <= ALL_BYTES
            for priority, band in registry.bands.items():
                mine = [item for item in waiting if item.priority == priority]
                assert band.requests == len(mine) <= BAND_REQUESTS
                assert band.bytes == sum(item.body_bytes for item in mine) <= BAND_BYTES

        @invariant()
        def nobody_waits_while_there_is_room(self) -> None:
            in_flight = self.pool.leases.in_flight("default/llama")
            if in_flight < ROOM * self.endpoints:
                assert self.pool.controller.registry.requests == 0

        @invariant()
        def the_gate_is_not_overrun(self) -> None:
            assert self.pool.leases.in_flight("default/llama") <= ROOM * 2

    return Machine


@pytest.mark.timeout(300)
def test_the_rules_hold_under_any_interleaving() -> None:
    run_state_machine_as_test(
        machine_of(),
        settings=settings(max_examples=100, stateful_step_count=50, deadline=None),
    )
