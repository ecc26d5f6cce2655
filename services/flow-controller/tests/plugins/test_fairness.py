from hypothesis import given
from hypothesis import strategies as st

from pointsman_flow_controller.plugins.fairness.global_strict import GlobalStrictFairnessPolicy
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_in_round_robin_no_flow_is_served_twice_while_another_waits(sizes: list[int]) -> None:
    policy = RoundRobinFairnessPolicy()
    left = {str(index): size for index, size in enumerate(sizes)}
    for name in left:
        policy.head_changed(name, (0.0, 0.0, 0))
    served = dict.fromkeys(left, 0)
    while (flow := policy.next_flow()) is not None:
        served[flow] += 1
        left[flow] -= 1
        if not left[flow]:
            policy.head_changed(flow, None)
        policy.dispatched(flow)
        backlogged = [served[name] for name, count in left.items() if count]
        assert not backlogged or max(backlogged) - min(backlogged) <= 1
    assert not any(left.values())


@given(
    st.lists(
        st.tuples(st.sampled_from("ABCDE"), st.one_of(st.none(), st.integers(0, 9))), max_size=60
    )
)
def test_global_strict_always_names_the_best_head(changes: list[tuple[str, int | None]]) -> None:
    policy = GlobalStrictFairnessPolicy()
    heads: dict[str, tuple[float, float, int]] = {}
    for number, (flow, rank) in enumerate(changes):
        if rank is None:
            heads.pop(flow, None)
            policy.head_changed(flow, None)
        else:
            heads[flow] = (float(rank), 0.0, number)
            policy.head_changed(flow, heads[flow])
        best = min(heads, key=lambda name: heads[name], default=None)
        assert policy.next_flow() == best


def test_in_round_robin_a_turn_taken_at_another_replica_is_passed_over() -> None:
    policy = RoundRobinFairnessPolicy()
    for flow in "AB":
        policy.head_changed(flow, (0.0, 0.0, 0))
    policy.dispatched_elsewhere("A", 2)
    policy.dispatched_elsewhere("not-waiting", 5)
    turns: list[str] = []
    for _ in range(5):
        chosen = policy.next_flow()
        assert chosen is not None
        turns.append(chosen)
        policy.dispatched(chosen)
    assert turns == ["B", "B", "A", "B", "A"]
