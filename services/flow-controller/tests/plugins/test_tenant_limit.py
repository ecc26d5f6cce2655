import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_flow_controller.core.token_bucket import TokenBucket
from pointsman_flow_controller.plugins.usage_limits import tenant_limit
from pointsman_flow_controller.plugins.usage_limits.priority_holdback import (
    PriorityHoldbackPolicy,
)
from pointsman_flow_controller.plugins.usage_limits.static_limit import StaticUsageLimitPolicy
from pointsman_flow_controller.plugins.usage_limits.tenant_limit import (
    TenantLimit,
    TenantLimitPolicy,
)


def limited(**limit: float) -> TenantLimitPolicy:
    return TenantLimitPolicy(StaticUsageLimitPolicy(), TenantLimit(**limit))


def test_so_many_requests_go_in_a_window_and_the_next_is_told_when_to_come() -> None:
    policy = limited(requests=2, window_s=10.0)
    assert [policy.take("A", 1, 100.0) for _ in range(3)] == [0.0, 0.0, 5.0]
    assert policy.take("B", 1, 100.0) == 0.0
    assert policy.take("A", 1, 104.9) == pytest.approx(0.1)
    assert policy.take("A", 1, 105.0) == 0.0


def test_a_burst_may_use_what_was_saved_up() -> None:
    policy = limited(requests=2, window_s=10.0, burst=3.0)
    assert [policy.take("A", 1, 0.0) for _ in range(7)].count(0.0) == 6


def test_an_answer_that_costs_more_is_paid_for_later() -> None:
    policy = limited(tokens=100, window_s=10.0)
    assert policy.take("A", 40, 0.0) == 0.0
    policy.spent("A", 0.0, 100, 0.0)  # its output; 40 in debt
    assert policy.take("A", 10, 0.0) == pytest.approx(5.0)
    assert policy.take("A", 10, 5.0) == 0.0


def test_a_request_larger_than_the_limit_goes_when_all_of_it_is_there() -> None:
    policy = limited(tokens=100, window_s=10.0)
    assert policy.take("A", 1_000, 0.0) == 0.0
    assert policy.take("A", 1, 0.0) == pytest.approx(90.1)


def test_a_refused_request_uses_nothing_of_either_limit() -> None:
    policy = limited(requests=1, tokens=100, window_s=10.0)
    assert policy.take("A", 10, 0.0) == 0.0
    assert policy.take("A", 10, 0.0) == 10.0
    assert policy.take("A", 95, 10.0) == 0.0


def test_what_was_used_survives_a_reload_and_a_changed_limit_begins_anew() -> None:
    old, same, changed = limited(requests=1), limited(requests=1), limited(requests=2)
    assert old.take("A", 1, 0.0) == 0.0
    same.inherit(old)
    changed.inherit(old)
    assert same.take("A", 1, 0.0) > 0.0
    assert changed.take("A", 1, 0.0) == 0.0


def test_the_ceilings_are_those_of_the_policy_inside() -> None:
    policy = TenantLimitPolicy(PriorityHoldbackPolicy(min_ceiling=0.5))
    assert policy.ceiling(0, [5, 0]) == 0.5
    assert policy.take("anybody", 10**9, 0.0) == 0.0


def test_tenants_named_by_clients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_limit, "MOST_TENANTS", 10)
    policy = limited(requests=5)
    for _ in range(5):
        policy.take("greedy", 1, 0.0)
    for index in range(100):
        policy.take(f"tenant-{index}", 1, 0.0)
    assert len(policy._uses) <= 10
    assert policy.take("greedy", 1, 0.0) > 0.0


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 30)), max_size=60),
    st.floats(1, 100),
    st.floats(0.1, 20),
)
def test_no_window_holds_more_than_the_bucket_and_what_it_gains(
    steps: list[tuple[float, float]], capacity: float, per_s: float
) -> None:
    bucket, now = TokenBucket(capacity, per_s, capacity, 0.0), 0.0
    taken: list[tuple[float, float]] = []
    for pause_s, wanted in steps:
        now += pause_s
        amount = min(wanted, capacity)
        wait_s = bucket.wait_s(amount, now)
        if wait_s == 0.0:
            bucket.use(amount, now)
            taken.append((now, amount))
        else:
            assert bucket.wait_s(amount, now + wait_s + 1e-6) == 0.0
            bucket.at = now + wait_s + 1e-6  # the look ahead has filled it
            now = bucket.at
    for first in range(len(taken)):
        used = 0.0
        for at, amount in taken[first:]:
            used += amount
            assert used <= capacity + (at - taken[first][0]) * per_s + 1e-6
