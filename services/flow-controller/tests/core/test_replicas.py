"""Several replicas before one pool: together they do what one would, and a dead one is missed
only for a moment. Virtual time; the bus takes 2 ms."""

from functools import cache
from itertools import pairwise

import pytest

from pointsman_flow_controller.core.queue_outcome import QueueOutcome
from pointsman_flow_controller.plugins.fairness.global_strict import GlobalStrictFairnessPolicy
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from pointsman_flow_controller.plugins.fairness.virtual_token_counter import (
    WeightedTokenFairnessPolicy,
)
from pointsman_flow_controller.plugins.usage_limits.static_limit import StaticUsageLimitPolicy
from pointsman_flow_controller.plugins.usage_limits.tenant_limit import (
    TenantLimit,
    TenantLimitPolicy,
)
from pointsman_flow_controller.testing.tenants import Tenant, TenantWorld

CAPACITY = 32
REQUEST_S = 0.11
"""A place is held for so long, on average: the pool serves 290 requests a second."""
UNEQUAL = [
    Tenant("chat", 120.0, prompt_tokens=200, output_tokens=50),
    Tenant("code", 120.0, prompt_tokens=1_500, output_tokens=50),
    Tenant("batch", 400.0, prompt_tokens=500, output_tokens=50),
]


@cache
def backlogged(replicas: int, fairness: type) -> TenantWorld:
    found = TenantWorld(replicas=replicas, capacity=CAPACITY, fairness=fairness)
    for tenant in UNEQUAL:
        found.send(tenant, until=3.0)
    found.run_until(3.0)
    return found


def shares(world: TenantWorld, counts: dict[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {tenant: count / total for tenant, count in counts.items()}


@pytest.mark.parametrize("fairness", [WeightedTokenFairnessPolicy, RoundRobinFairnessPolicy])
def test_three_replicas_divide_a_pool_as_one_does(fairness: type) -> None:
    one, three = backlogged(1, fairness), backlogged(3, fairness)
    for tenant, share in shares(one, one.tokens).items():
        assert shares(three, three.tokens)[tenant] == pytest.approx(share, rel=0.05)


def test_replicas_leave_no_place_empty_and_overrun_the_gate_by_less_than_one_each() -> None:
    one = backlogged(1, WeightedTokenFairnessPolicy)
    three = backlogged(3, WeightedTokenFairnessPolicy)
    assert three.busy_s >= 0.98 * one.busy_s
    start_overrun = 3  # each may take one in the 5 ms in which nobody has told of anything
    assert three.most_running <= CAPACITY + start_overrun


def test_a_tenant_known_to_one_replica_only_gets_its_share_of_the_pool() -> None:
    world = TenantWorld(replicas=3, capacity=CAPACITY, fairness=RoundRobinFairnessPolicy)
    world.send(Tenant("everywhere", 600.0), until=2.5)
    world.send(Tenant("here", 300.0, replica=0), until=2.5)
    world.run_until(2.5)
    assert shares(world, world.requests)["here"] == pytest.approx(0.5, abs=0.04)


def test_where_nobody_is_favoured_replicas_share_by_what_waits() -> None:
    world = TenantWorld(replicas=2, capacity=CAPACITY, fairness=GlobalStrictFairnessPolicy)
    world.burst(Tenant("A", 1.0, replica=0), 900)
    world.burst(Tenant("B", 1.0, replica=1), 300)
    world.run_until(0.2)
    first = world.requests.copy()  # while neither knew of the other
    world.run_until(1.2)
    later = world.requests - first
    assert later["A"] / later["B"] == pytest.approx(3.0, rel=0.15)


def test_a_higher_priority_goes_first_whichever_replica_it_waits_at() -> None:
    world = TenantWorld(replicas=2, capacity=CAPACITY)
    world.burst(Tenant("low", 1.0, replica=0), 400)
    world.run_until(0.3)
    gone_before = world.requests["low"]
    world.burst(Tenant("high", 1.0, priority=5, replica=1), 200)
    world.run_until(0.3 + 200 / (CAPACITY / REQUEST_S) - 0.1)
    # Within the 2 ms in which nobody has heard of them, and at places left at the end of a round.
    assert world.requests["low"] - gone_before <= 6
    assert world.requests["high"] > 130


def test_a_dead_replica_gives_its_share_back_within_a_second() -> None:
    world = TenantWorld(replicas=2, capacity=CAPACITY)
    for _ in range(2):
        world.burst(Tenant("A", 1.0, replica=0), 600)
        world.burst(Tenant("B", 1.0, replica=1), 600)
    world.run_until(0.5)
    world.group.kill(1)  # nobody asks again
    world.run_until(1.0)
    busy_before = world.busy_s
    world.run_until(2.0)
    assert world.busy_s - busy_before >= 0.97 * CAPACITY


def test_what_waited_at_a_dead_replica_is_served_elsewhere_in_the_order_of_arrival() -> None:
    world = TenantWorld(replicas=2, capacity=CAPACITY)
    world.burst(Tenant("A", 1.0), 300)
    world.run_until(0.2)
    world.burst(Tenant("A", 1.0, replica=0), 50)
    world.run_until(0.3)
    lost = world.kill(1)
    assert lost > 50
    world.run_until(10.0)
    dispatched = world.waits["A"]
    assert len(dispatched) == 350
    assert set(world.exits.values()) == {1}
    # The first 300 arrived together, 0.2 s before the others, which waited at the one that lives.
    late = dispatched[-50:]
    assert all(earlier <= later + 0.25 for earlier, later in pairwise(late))
    assert world.outcomes == {QueueOutcome.DISPATCHED: 350}


def test_a_limit_holds_over_all_replicas_within_one_exchange() -> None:
    def limit() -> TenantLimitPolicy:
        return TenantLimitPolicy(StaticUsageLimitPolicy(), TenantLimit(requests=100, window_s=10.0))

    world = TenantWorld(replicas=3, capacity=1_000, make_usage_limit=limit)
    world.send(Tenant("A", 50.0), until=10.0)
    world.run_until(10.0)
    allowed = 100 + 10.0 * 10.0
    # Three replicas may each grant what comes to them until the others tell: 50 ms and the bus.
    unheard = 3 * 50.0 * 0.052
    assert allowed - 2 <= world.requests["A"] <= allowed + unheard
    assert world.outcomes[QueueOutcome.REJECTED_LIMIT] == world.asked - world.requests["A"]


def test_cut_off_from_the_others_a_replica_goes_on_and_is_heard_again() -> None:
    world = TenantWorld(replicas=2, capacity=CAPACITY)
    for tenant in UNEQUAL:
        world.send(tenant, until=2.5)
    world.run_until(1.0)
    world.group.partitioned = {0, 1}
    world.run_until(1.5)
    during = sum(world.requests.values())
    world.group.heal()
    world.run_until(2.5)
    assert sum(world.requests.values()) > during + 250
    assert set(world.exits.values()) == {1}


def test_services_of_backlogged_tenants_differ_by_no_more_than_twice_a_full_batch() -> None:
    for replicas in (1, 3):
        world = TenantWorld(replicas=replicas, capacity=CAPACITY)
        for tenant in UNEQUAL:
            world.burst(tenant, 600)
        world.run_until(2.0)
        assert min(world.group.waiting, 1) == 1
        dearest = 1_500 + 2 * 70
        spread = max(world.tokens.values()) - min(world.tokens.values())
        assert spread <= 2 * max(1_500, CAPACITY * dearest)


def test_one_that_sends_ten_times_its_share_costs_the_others_nothing() -> None:
    """Each tenant waits about as it would with its tenth of the pool to itself."""
    tenants = [Tenant(f"t{index}", 24.0) for index in range(9)]

    def waits(capacity: int, *sent: Tenant) -> TenantWorld:
        world = TenantWorld(capacity=capacity, seed=3)
        for tenant in sent:
            world.send(tenant, until=8.0)
        world.run_until(8.0)
        return world

    alone = waits(3, tenants[0]).wait_p("t0")
    beside = waits(30, *tenants, Tenant("heavy", 240.0))
    assert beside.wait_p("heavy", 0.5) > 2.0
    for tenant in tenants:
        assert beside.wait_p(tenant.name) <= 1.2 * alone
