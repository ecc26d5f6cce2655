"""What an operation costs does not grow with what waits: counted in steps, not in time."""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from pointsman_common.testing.builders import an_endpoint
from pointsman_flow_controller.plugins.fairness.global_strict import GlobalStrictFairnessPolicy
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from pointsman_flow_controller.plugins.fairness.virtual_token_counter import (
    WeightedTokenFairnessPolicy,
)
from pointsman_flow_controller.testing.controlled_pool import ControlledPool


def lines_of(call: Callable[[], object]) -> int:
    """Lines of Python that a call runs: a heap's own steps are hidden in C, and few."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def crowded(queued: int, flows: int, fairness: Callable[[], Any]) -> ControlledPool:
    pool = ControlledPool(
        room=1, fairness=fairness, band_requests=10**6, band_bytes=10**9, max_requests=10**6
    )
    pool.ask("running", flow="flow-0")
    for index in range(queued):
        pool.ask(f"r{index}", flow=f"flow-{index % flows}", prompt_tokens=index % 50)
    return pool


def costs_of(pool: ControlledPool) -> list[int]:
    """Of arriving, going, being cancelled, and of looking at the time; each the middle of some, for
    once in many times there is tidying to do."""
    controller, now = pool.controller, pool.now
    cancelled = [pool.ask(f"again{index}", flow="flow-7") for index in range(8)]

    def finish_one() -> None:
        pool.finish(next(iter(pool.leases.leases())).lease_id)

    return [
        _middle(partial(pool.ask, f"x{index}", flow=f"f{index}") for index in range(8)),
        _middle(finish_one for _ in range(8)),
        _middle(partial(controller.cancel, request, now) for request in cancelled),
        lines_of(partial(controller.next_due, now)),
        lines_of(partial(controller.expire, now)),
    ]


def _middle(calls: Iterable[Callable[[], object]]) -> int:
    counts = sorted(lines_of(call) for call in calls)
    return counts[len(counts) // 2]


@pytest.mark.parametrize(
    "fairness",
    [RoundRobinFairnessPolicy, GlobalStrictFairnessPolicy, WeightedTokenFairnessPolicy],
)
def test_no_operation_looks_at_all_that_waits(fairness: Callable[[], Any]) -> None:
    costs = [
        costs_of(crowded(queued, flows, fairness)) for queued, flows in ((500, 50), (5_000, 500))
    ]
    few, many = costs
    assert all(more <= 1.3 * less + 20 for less, more in zip(few, many, strict=True)), costs


def test_with_all_let_go_at_once_each_costs_the_same() -> None:
    each: list[float] = []
    for queued in (300, 3_000):
        pool = crowded(queued, queued // 10, RoundRobinFairnessPolicy)
        room = [an_endpoint(index + 1) for index in range(queued + 1)]
        each.append(lines_of(partial(pool.observe, room)) / queued)
        assert pool.controller.registry.requests == 0
    assert each[1] <= 1.2 * each[0]
