"""What flows are charged: tokens that were not cached, and output as it becomes known."""

from pointsman_flow_controller.core import service_accounts
from pointsman_flow_controller.core.queue_outcome import QueueOutcome
from pointsman_flow_controller.core.service_accounts import Charge, ServiceAccounts, newer_mean
from pointsman_flow_controller.plugins.fairness.virtual_token_counter import (
    WeightedTokenFairnessPolicy,
)
from pointsman_flow_controller.plugins.usage_limits.static_limit import StaticUsageLimitPolicy
from pointsman_flow_controller.plugins.usage_limits.tenant_limit import (
    TenantLimit,
    TenantLimitPolicy,
)
from pointsman_flow_controller.testing.controlled_pool import ControlledPool, exit_of


def test_a_request_is_charged_in_the_end_exactly_what_the_engine_counted() -> None:
    accounts = ServiceAccounts()
    accounts.opened("l1", Charge(0, "A", 100, 20))
    assert accounts.picked("l1", prefill_tokens=40) == Charge(0, "A", -60, 0)
    end = accounts.finished("l1", prompt_tokens=104, cached_tokens=64, output_tokens=33)
    assert end == Charge(0, "A", 0, 13)
    assert accounts.finished("l1", prompt_tokens=1, cached_tokens=0, output_tokens=1) is None


def test_what_the_engine_does_not_tell_stays_as_it_was_charged() -> None:
    accounts = ServiceAccounts()
    accounts.opened("l1", Charge(0, "A", 100, 20))
    end = accounts.finished("l1", prompt_tokens=None, cached_tokens=None, output_tokens=None)
    assert end == Charge(0, "A", 0, 0)


def test_open_accounts_are_bounded() -> None:
    accounts = ServiceAccounts()
    for index in range(service_accounts.MOST_OPEN + 10):
        accounts.opened(f"l{index}", Charge(0, "A", 1, 0))
    assert len(accounts._open) == service_accounts.MOST_OPEN


def test_a_flow_is_expected_to_answer_as_it_did_of_late() -> None:
    mean = None
    for tokens in [100] * 5 + [200] * 60:
        mean = newer_mean(mean, tokens)
    assert mean is not None
    assert 195 < mean <= 200


def test_a_flow_whose_answers_are_long_waits_for_its_turn_before_they_end() -> None:
    pool = ControlledPool(room=2, fairness=WeightedTokenFairnessPolicy)
    for name, flow, output in (("a0", "long", 1_000), ("b0", "short", 10)):
        pool.ask(name, flow=flow, prompt_tokens=10)
        pool.controller.finished(name, pool.now, output_tokens=output)
        pool.leases.finish(name)
    for name in ("a1", "a2"):
        pool.ask(name, flow="long", prompt_tokens=10)
    for index in range(3):
        pool.ask(f"long{index}", flow="long", prompt_tokens=10)
        pool.ask(f"short{index}", flow="short", prompt_tokens=10)
    assert pool.order()[4:] == ["long0", "short0", "short1", "short2", "long1", "long2"]


def test_in_round_robin_the_end_of_an_answer_costs_no_turn() -> None:
    pool = ControlledPool(room=1)
    pool.ask("running", flow="A")
    for name, flow in (("a1", "A"), ("b1", "B")):
        pool.ask(name, flow=flow)
    pool.controller.finished("running", pool.now, output_tokens=50)
    pool.leases.finish("running")
    pool.controller.dispatch(pool.now)
    assert [name for name, _ in pool.left] == ["running", "a1"]


def test_a_tenant_over_its_limit_is_refused_and_told_when_to_come_again() -> None:
    limit = TenantLimitPolicy(StaticUsageLimitPolicy(), TenantLimit(requests=2, window_s=30.0))
    pool = ControlledPool(room=10, usage_limit=limit)
    pool.ask("a1", flow="A")
    pool.ask("a2", flow="A", priority=5)
    refused = exit_of(pool.ask("a3", flow="A"))
    assert refused.outcome is QueueOutcome.REJECTED_LIMIT
    assert refused.retry_after_s() == 15
    assert exit_of(pool.ask("b1", flow="B")).outcome is QueueOutcome.DISPATCHED


def test_a_request_that_leaves_the_queue_uses_nothing_of_the_limit() -> None:
    limit = TenantLimitPolicy(StaticUsageLimitPolicy(), TenantLimit(requests=2, window_s=30.0))
    pool = ControlledPool(room=1, usage_limit=limit)
    pool.ask("running", flow="A")
    pool.controller.cancel(pool.ask("goes", flow="A"), pool.now)
    assert pool.ask("waits", flow="A").exit is None
