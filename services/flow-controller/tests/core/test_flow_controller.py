import math

import pytest

from pointsman_common.testing.builders import an_endpoint
from pointsman_flow_controller.core import flow_registry
from pointsman_flow_controller.core.flow_policy import BandPolicy
from pointsman_flow_controller.core.queue_outcome import QueueOutcome
from pointsman_flow_controller.plugins.fairness.global_strict import GlobalStrictFairnessPolicy
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from pointsman_flow_controller.plugins.ordering.earliest_deadline import (
    EarliestDeadlineOrderingPolicy,
)
from pointsman_flow_controller.plugins.ordering.first_come import FirstComeOrderingPolicy
from pointsman_flow_controller.plugins.ordering.slo_deadline import SloDeadlineOrderingPolicy
from pointsman_flow_controller.plugins.usage_limits.priority_holdback import (
    PriorityHoldbackPolicy,
)
from pointsman_flow_controller.testing.controlled_pool import ControlledPool, exit_of

DISPATCHED = QueueOutcome.DISPATCHED


def test_a_request_goes_at_once_while_there_is_room() -> None:
    pool = ControlledPool(room=2)
    assert [exit_of(pool.ask(name)).outcome for name in "ab"] == [DISPATCHED, DISPATCHED]
    assert pool.ask("c").exit is None
    assert pool.leases.in_flight("default/llama") == 2


def test_a_finished_lease_lets_the_next_go() -> None:
    pool = ControlledPool(room=1)
    pool.ask("a")
    waiting = pool.ask("b")
    pool.now += 2.5
    pool.finish("a")
    assert exit_of(waiting).outcome is DISPATCHED
    assert exit_of(waiting).queued_s == pytest.approx(2.5)


def test_all_that_fit_go_at_once() -> None:
    pool = ControlledPool(room=3)
    for name in "abcdef":
        pool.ask(name)
    pool.observe([an_endpoint(1), an_endpoint(2)])
    assert [name for name, _ in pool.left] == list("abcdef")


def test_a_higher_priority_goes_first_and_holds_all_below() -> None:
    pool = ControlledPool()
    pool.ask("running")
    for name, priority in [("low", 0), ("high", 10), ("mid", 5), ("high2", 10)]:
        pool.ask(name, priority=priority)
    assert pool.order() == ["running", "high", "high2", "mid", "low"]


def test_round_robin_takes_each_flow_in_turn() -> None:
    pool = ControlledPool()
    pool.ask("running", flow="Z")
    for name, flow in [("a1", "A"), ("a2", "A"), ("a3", "A"), ("b1", "B")]:
        pool.ask(name, flow=flow)
    assert pool.order() == ["running", "a1", "b1", "a2", "a3"]


def test_global_strict_goes_by_arrival_whatever_the_flow() -> None:
    pool = ControlledPool(fairness=GlobalStrictFairnessPolicy)
    pool.ask("running", flow="Z")
    for name, flow in [("a1", "A"), ("a2", "A"), ("a3", "A"), ("b1", "B")]:
        pool.ask(name, flow=flow)
    assert pool.order() == ["running", "a1", "a2", "a3", "b1"]


def test_a_request_asked_again_keeps_its_place_in_time() -> None:
    pool = ControlledPool()
    for name in ("running", "first", "second"):
        pool.ask(name)
    pool.ask("asked-before", arrived_at=pool.now - 5)
    assert pool.order() == ["running", "asked-before", "first", "second"]


def test_the_earliest_deadline_goes_first_and_no_deadline_last() -> None:
    pool = ControlledPool(ordering=EarliestDeadlineOrderingPolicy())
    pool.ask("running")
    for name, ttl_s in [("never", math.inf), ("late", 50.0), ("soon", 10.0)]:
        pool.ask(name, ttl_s=ttl_s)
    assert pool.order() == ["running", "soon", "late", "never"]


def test_the_first_token_that_is_due_first_goes_first() -> None:
    pool = ControlledPool(ordering=SloDeadlineOrderingPolicy())
    pool.ask("running")
    for name, slo_s in [("none", None), ("slow", 5.0), ("fast", 0.2)]:
        pool.ask(name, ttft_slo_s=slo_s)
    assert pool.order() == ["running", "fast", "slow", "none"]


def test_a_negative_priority_is_shed_by_a_full_pool_and_goes_in_a_free_one() -> None:
    pool = ControlledPool(room=1)
    assert exit_of(pool.ask("free", priority=-1)).outcome is DISPATCHED
    shed = pool.ask("full", priority=-1)
    assert exit_of(shed).outcome is QueueOutcome.REJECTED_SATURATED
    assert exit_of(shed).retry_after_s() >= 1
    assert pool.ask("zero", priority=0).exit is None


def test_a_full_band_refuses_its_newest() -> None:
    pool = ControlledPool(band_requests=2)
    for name in ("running", "one", "two"):
        pool.ask(name)
    refused = pool.ask("three")
    assert exit_of(refused).outcome is QueueOutcome.REJECTED_CAPACITY
    assert exit_of(refused).queue_position == 0
    assert pool.ask("other-band", priority=1).exit is None


def test_a_band_is_bounded_in_bytes_too() -> None:
    pool = ControlledPool(band_bytes=1_000)
    pool.ask("running")
    assert pool.ask("one", body_bytes=600).exit is None
    assert exit_of(pool.ask("two", body_bytes=600)).outcome is QueueOutcome.REJECTED_CAPACITY
    assert pool.ask("small", body_bytes=400).exit is None


def test_a_full_band_of_an_empty_pool_says_that_there_are_no_endpoints() -> None:
    pool = ControlledPool(endpoints=0, band_requests=1)
    assert pool.ask("one").exit is None
    assert exit_of(pool.ask("two")).outcome is QueueOutcome.REJECTED_NO_ENDPOINTS


def test_a_full_pool_displaces_the_newest_of_the_lowest_priority() -> None:
    pool = ControlledPool(max_requests=3)
    pool.ask("running")
    for name, priority in [("mid", 5), ("low1", 0), ("low2", 0)]:
        pool.ask(name, priority=priority)
    assert pool.ask("high", priority=10).exit is None
    assert pool.exits["low2"].outcome is QueueOutcome.EVICTED_PRIORITY
    assert pool.exits["low2"].queue_position == 3
    assert exit_of(pool.ask("low3", priority=0)).outcome is QueueOutcome.REJECTED_CAPACITY
    assert pool.order() == ["running", "high", "mid", "low1"]


def test_nobody_is_displaced_when_that_would_not_make_room() -> None:
    pool = ControlledPool(max_bytes=100)
    pool.ask("running")
    pool.ask("low", body_bytes=30)
    pool.ask("high", priority=1, body_bytes=70)
    refused = pool.ask("higher", priority=2, body_bytes=101)
    assert exit_of(refused).outcome is QueueOutcome.REJECTED_CAPACITY
    assert pool.ask("equal", priority=1, body_bytes=40).exit is not None
    assert pool.controller.registry.requests == 2


def test_a_wait_ends_exactly_at_its_limit() -> None:
    pool = ControlledPool()
    pool.ask("running")
    waiting = pool.ask("waits", ttl_s=10.0, arrived_at=pool.now - 4)
    assert pool.controller.registry.next_expiry() == pool.now + 6
    pool.advance(5.999)
    assert waiting.exit is None
    pool.advance(0.001)
    assert exit_of(waiting).outcome is QueueOutcome.EVICTED_TTL
    assert pool.controller.registry.next_expiry() is None


def test_a_wait_without_limit_has_no_end() -> None:
    pool = ControlledPool()
    pool.ask("running")
    waiting = pool.ask("waits", ttl_s=math.inf)
    assert pool.controller.registry.next_expiry() is None
    pool.advance(1e6)
    assert waiting.exit is None


def test_an_empty_pool_has_a_limit_of_its_own() -> None:
    pool = ControlledPool(endpoints=0)
    waiting = pool.ask("waits", ttl_s=60.0, no_endpoint_ttl_s=1.0)
    pool.advance(1.0)
    assert exit_of(waiting).outcome is QueueOutcome.EVICTED_NO_ENDPOINTS


def test_the_limit_starts_anew_when_the_pool_becomes_empty() -> None:
    pool = ControlledPool()
    pool.ask("running")
    pool.ask("waits", ttl_s=60.0, no_endpoint_ttl_s=5.0)
    pool.advance(30.0)
    pool.observe([])
    assert pool.controller.registry.next_expiry() == pool.now + 5.0
    pool.observe([an_endpoint(1)])
    assert pool.controller.registry.next_expiry() == pytest.approx(1_060.0)


def test_a_request_waits_for_the_first_endpoint_whatever_its_priority() -> None:
    pool = ControlledPool(endpoints=0, room=2)
    sheddable, normal = pool.ask("sheddable", priority=-1), pool.ask("normal")
    assert sheddable.exit is None
    assert normal.exit is None
    pool.observe([an_endpoint(1)])
    assert [name for name, _ in pool.left] == ["normal", "sheddable"]


def test_a_client_that_goes_gives_its_place_up() -> None:
    pool = ControlledPool(band_requests=1)
    pool.ask("running")
    waiting = pool.ask("goes")
    pool.controller.cancel(waiting, pool.now)
    assert exit_of(waiting).outcome is QueueOutcome.EVICTED_CONTEXT_CANCELLED
    assert pool.ask("next").exit is None
    pool.controller.cancel(waiting, pool.now)
    assert pool.order() == ["running", "next"]


def test_a_shut_down_ends_every_wait() -> None:
    pool = ControlledPool()
    for name in ("running", "one", "two"):
        pool.ask(name)
    pool.controller.shut_down(pool.now)
    ends = [outcome for _, outcome in pool.left[1:]]
    assert ends == [QueueOutcome.EVICTED_OTHER] * 2
    assert pool.controller.registry.requests == 0


def test_without_queues_everybody_goes_but_the_sheddable_of_a_full_pool() -> None:
    pool = ControlledPool(queueing=False)
    first, second = pool.ask("first"), pool.ask("second")
    assert (exit_of(first).outcome, exit_of(second).outcome) == (DISPATCHED, DISPATCHED)
    assert exit_of(second).unguarded
    shed = pool.ask("shed", priority=-1)
    assert exit_of(shed).outcome is QueueOutcome.REJECTED_SATURATED


def test_without_queues_an_empty_pool_admits_even_the_sheddable() -> None:
    pool = ControlledPool(queueing=False, endpoints=0)
    assert exit_of(pool.ask("shed", priority=-1)).outcome is DISPATCHED


def test_a_new_policy_keeps_what_waits_in_order() -> None:
    pool = ControlledPool()
    pool.ask("running", flow="Z")
    for name, flow in [("a1", "A"), ("a2", "A"), ("b1", "B")]:
        pool.ask(name, flow=flow)
    new = pool.policy(fairness=GlobalStrictFairnessPolicy, band_requests=1)
    pool.controller.reconfigure(new, pool.now)
    assert pool.controller.registry.requests == 3
    assert exit_of(pool.ask("refused")).outcome is QueueOutcome.REJECTED_CAPACITY
    assert pool.order() == ["running", "a1", "a2", "b1"]
    assert pool.controller.registry.bands[0].flows["A"].dispatched == 2


def test_switching_the_queues_off_lets_all_go() -> None:
    pool = ControlledPool()
    for name in "abc":
        pool.ask(name)
    pool.controller.reconfigure(pool.policy(queueing=False), pool.now)
    assert [name for name, _ in pool.left] == list("abc")


def test_capacity_is_held_back_from_lower_priorities() -> None:
    band = BandPolicy(RoundRobinFairnessPolicy, FirstComeOrderingPolicy())
    pool = ControlledPool(
        room=4, usage_limit=PriorityHoldbackPolicy(min_ceiling=0.5), bands={10: band, 0: band}
    )
    for name in "abcd":
        pool.ask(name, priority=0)
    assert [name for name, _ in pool.left] == ["a", "b"]
    assert exit_of(pool.ask("high", priority=10)).outcome is DISPATCHED
    pool.finish("high")
    assert pool.controller.registry.requests == 2
    pool.finish("a")
    assert [name for name, _ in pool.left] == ["a", "b", "high", "c"]


def test_a_silent_pool_is_gated_by_what_is_in_flight_alone() -> None:
    pool = ControlledPool(room=100)
    pool.controller.gate.blind = True
    assert exit_of(pool.ask("a")).outcome is DISPATCHED
    assert pool.ask("b").exit is None


def test_a_refusal_says_when_to_come_again() -> None:
    pool = ControlledPool(room=1, band_requests=4)
    pool.ask("r0")
    for turn in range(40):  # two requests a second
        pool.now += 0.5
        pool.finish(f"r{turn}")
        pool.ask(f"r{turn + 1}")
    for name in "abcd":
        pool.ask(name)
    refused = pool.ask("e")
    assert exit_of(refused).outcome is QueueOutcome.REJECTED_CAPACITY
    assert exit_of(refused).estimated_wait_s == pytest.approx(2.5, rel=0.1)
    assert exit_of(refused).retry_after_s() == 3


def test_idle_flows_and_unnamed_bands_are_collected() -> None:
    named = ControlledPool().policy().band
    pool = ControlledPool(room=10, bands={3: named})
    pool.ask("a", flow="A", priority=7)
    pool.now += 299
    pool.controller.collect_idle(pool.now)
    assert "A" in pool.controller.registry.bands[7].flows
    pool.now += 1
    pool.controller.collect_idle(pool.now)
    assert not pool.controller.registry.bands[7].flows
    pool.now += 300
    pool.controller.collect_idle(pool.now)
    assert pool.controller.registry.priorities == [3]


def test_flows_named_by_clients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_registry, "MOST_IDLE_FLOWS", 10)
    pool = ControlledPool(room=10**6)
    for index in range(100):
        pool.now += 0.001
        pool.ask(f"r{index}", flow=f"flow-{index}")
    assert len(pool.controller.registry.bands[0].flows) <= 11


def test_priorities_are_bounded_while_none_can_be_collected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flow_registry, "MOST_BANDS", 2)
    pool = ControlledPool()
    pool.ask("running")
    pool.ask("one", priority=1)
    pool.ask("zero")
    assert exit_of(pool.ask("two", priority=2)).outcome is QueueOutcome.REJECTED_CAPACITY


def test_output_tokens_are_charged_to_the_flow_that_was_served() -> None:
    pool = ControlledPool()
    pool.ask("a", flow="A", prompt_tokens=100)
    pool.controller.finished("a", pool.now, output_tokens=20)
    assert pool.controller.registry.bands[0].flows["A"].served_tokens == 120
