"""The virtual token counter: who is next, what a return from idleness is worth, and its bound."""

from hypothesis import given
from hypothesis import strategies as st

from pointsman_flow_controller.core.flow_queue import Order
from pointsman_flow_controller.plugins.fairness import virtual_token_counter
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from pointsman_flow_controller.plugins.fairness.virtual_token_counter import (
    WeightedTokenFairnessPolicy,
)

SOME_HEAD: Order = (0.0, 0.0, 1)


def waiting(*flows: str, **policy: object) -> WeightedTokenFairnessPolicy:
    found = WeightedTokenFairnessPolicy(**policy)  # type: ignore[arg-type]  # of the test's choice
    for flow in flows:
        found.head_changed(flow, SOME_HEAD)
    return found


def test_the_flow_that_was_given_least_is_next() -> None:
    policy = waiting("A", "B")
    policy.charge("A", 10, 0)
    assert policy.next_flow() == "B"
    policy.charge("B", 0, 6)  # an output token counts twice
    assert policy.next_flow() == "A"


def test_a_flow_of_twice_the_weight_is_given_twice_the_tokens() -> None:
    policy = waiting("heavy", "light", weights={"heavy": 2.0})
    given_tokens = {"heavy": 0, "light": 0}
    for _ in range(300):
        flow = policy.next_flow()
        assert flow is not None
        given_tokens[flow] += 10
        policy.charge(flow, 10, 0)
    assert given_tokens == {"heavy": 2_000, "light": 1_000}


def test_what_a_flow_did_not_use_while_idle_is_not_saved_up() -> None:
    policy = waiting("A")
    for _ in range(100):
        policy.charge("A", 100, 0)
    policy.head_changed("B", SOME_HEAD)
    assert policy.counter("B") == policy.counter("A")


def test_a_flow_that_comes_back_keeps_what_it_had_too_much() -> None:
    policy = waiting("A", "B")
    policy.charge("A", 1_000, 0)
    policy.head_changed("A", None)
    policy.head_changed("A", SOME_HEAD)
    assert policy.next_flow() == "B"


def test_a_flow_begins_where_the_last_one_stopped_when_nobody_waits() -> None:
    policy = waiting("A")
    policy.charge("A", 500, 0)
    assert policy.next_flow() == "A"
    policy.head_changed("A", None)
    policy.head_changed("B", SOME_HEAD)
    assert policy.counter("B") == 500


def test_what_turns_out_to_have_been_cached_is_given_back() -> None:
    policy = waiting("A", "B")
    policy.charge("A", 100, 0)
    policy.charge("B", 60, 0)
    policy.charge("A", -90, 0)
    assert policy.next_flow() == "A"


def test_counters_survive_a_new_configuration() -> None:
    old, new = waiting("A", "B"), WeightedTokenFairnessPolicy()
    old.charge("A", 100, 0)
    new.inherit(old)
    for flow in "AB":
        new.head_changed(flow, SOME_HEAD)
    assert new.next_flow() == "B"
    new.inherit(RoundRobinFairnessPolicy())
    assert new.counter("A") == 100


def test_counters_of_idle_flows_are_bounded() -> None:
    policy = WeightedTokenFairnessPolicy()
    most = virtual_token_counter.MOST_IDLE
    for index in range(3 * most):
        policy.charge(f"flow-{index}", index, 0)
    assert len(policy._counters) <= 2 * most
    assert policy.counter(f"flow-{3 * most - 1}") == 3 * most - 1


COSTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=200)


@given(COSTS, st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=2, max_size=5))
def test_of_flows_that_always_wait_none_is_ahead_by_more_than_one_request(
    costs: list[tuple[int, int]], weights: list[float]
) -> None:
    names = [str(index) for index in range(len(weights))]
    policy = waiting(*names, weights=dict(zip(names, weights, strict=True)))
    service = dict.fromkeys(names, 0.0)
    dearest = max(prompt + 2 * output for prompt, output in costs)
    for prompt, output in costs:
        flow = policy.next_flow()
        assert flow is not None
        policy.charge(flow, prompt, output)
        service[flow] += (prompt + 2 * output) / policy.weight(flow, 1)
        spread = max(service.values()) - min(service.values())
        assert spread <= dearest / min(weights) + 1e-6


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ABCD"), st.sampled_from(["wait", "idle", "charge"]), st.integers(0, 9)
        ),
        max_size=80,
    )
)
def test_it_always_names_the_waiting_flow_with_the_smallest_counter(
    steps: list[tuple[str, str, int]],
) -> None:
    policy, waits = WeightedTokenFairnessPolicy(), set[str]()
    for flow, step, tokens in steps:
        if step == "charge":
            policy.charge(flow, tokens, 0)
        elif step == "wait":
            policy.head_changed(flow, (0.0, 0.0, tokens))
            waits.add(flow)
        else:
            policy.head_changed(flow, None)
            waits.discard(flow)
        least = min((policy.counter(name) for name in waits), default=None)
        chosen = policy.next_flow()
        assert (chosen is None) == (least is None)
        assert chosen is None or policy.counter(chosen) == least
