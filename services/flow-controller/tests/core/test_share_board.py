"""All replicas that hear the same agree on the shares, and these add up to one."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_flow_controller.core.share_board import (
    HEARD_WITHIN_S,
    FlowDemand,
    Service,
    ShareBoard,
)


def board(me: str = "r0", **weights: float) -> ShareBoard:
    return ShareBoard(me, lambda _priority, flow, _queued: weights.get(flow, 1.0))


def tell(
    target: ShareBoard, replica: str, *flows: FlowDemand, whole: bool = False, now: float = 0.0
) -> list[Service]:
    return target.tell(replica, 1, flows, whole=whole, now=now)


def test_alone_all_is_ones_own() -> None:
    found = board()
    tell(found, "r0", FlowDemand(0, "A", 3))
    assert found.share(0) == 1.0
    assert not found.others_queued


def test_each_flow_is_divided_as_its_requests_are() -> None:
    found = board()
    tell(found, "r0", FlowDemand(0, "A", 1))
    tell(found, "r1", FlowDemand(0, "A", 3), FlowDemand(0, "B", 50))
    assert found.share(0) == pytest.approx(0.25 / 2)
    assert found.contested(0) == (0, 53)
    assert found.contested(-1) == (53, 0)


def test_a_flow_of_more_weight_brings_its_replica_more() -> None:
    found = board(A=3.0)
    tell(found, "r0", FlowDemand(0, "A", 1))
    tell(found, "r1", FlowDemand(0, "B", 1))
    assert found.share(0) == pytest.approx(0.75)


def test_a_replica_that_falls_silent_has_no_share_and_is_let_in_again() -> None:
    found = board()
    tell(found, "r0", FlowDemand(0, "A", 1))
    tell(found, "r1", FlowDemand(0, "A", 1), now=10.0)
    assert found.next_expiry() == 10.0 + HEARD_WITHIN_S
    assert not found.expire(9.99 + HEARD_WITHIN_S)
    assert found.expire(10.0 + HEARD_WITHIN_S)
    assert (found.share(0), found.others_queued, found.next_expiry()) == (1.0, 0, None)
    tell(found, "r1", now=11.0)
    assert found.share(0) == pytest.approx(0.5)


def test_service_is_told_once_however_often_it_is_repeated() -> None:
    found = board()
    tell(found, "r1", FlowDemand(0, "A", 0, 5, 100, 10), whole=True)
    assert tell(found, "r1", FlowDemand(0, "A", 0, 7, 150, 5)) == [Service(0, "A", 2, 50, -5)]
    assert tell(found, "r1", FlowDemand(0, "A", 0, 7, 150, 5)) == []
    assert tell(found, "r1", FlowDemand(0, "B", 0, 1, 9, 0)) == [Service(0, "B", 1, 9, 0)]


def test_what_was_let_go_before_a_replica_was_heard_counts_nothing() -> None:
    found = board()
    assert tell(found, "r1", FlowDemand(0, "A", 0, 5_000, 10**6, 0)) == []
    assert tell(found, "r1", FlowDemand(0, "B", 0, 5_000, 10**6, 0)) == []
    assert tell(found, "r1", FlowDemand(0, "A", 0, 5_001, 10**6 + 7, 0)) == [
        Service(0, "A", 1, 7, 0)
    ]


def test_a_replica_that_starts_again_counts_from_nothing() -> None:
    found = board()
    tell(found, "r1", FlowDemand(0, "A", 4, 9, 90, 0), whole=True)
    assert found.tell("r1", 2, [FlowDemand(0, "A", 1, 0, 0, 0)], whole=True, now=1.0) == []
    assert found.contested(0) == (0, 1)
    assert found.tell("r1", 1, [FlowDemand(0, "A", 99)], whole=True, now=1.0) == []
    assert found.contested(0) == (0, 1)


def test_a_flow_that_a_whole_message_does_not_name_waits_no_more() -> None:
    found = board()
    tell(found, "r1", FlowDemand(0, "A", 4), FlowDemand(0, "B", 2), whole=True)
    tell(found, "r1", FlowDemand(0, "B", 2), whole=True)
    assert found.contested(0) == (0, 2)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("tell"),
            st.integers(0, 2),
            st.sampled_from([0, 1]),
            st.sampled_from("ABC"),
            st.integers(0, 4),
        ),
        st.tuples(
            st.sampled_from(["silence", "forget"]),
            st.integers(0, 2),
            st.just(0),
            st.just(""),
            st.just(0),
        ),
    ),
    max_size=60,
)


@given(STEPS)
def test_shares_are_those_of_the_definition_whatever_was_told_in_which_order(
    steps: list[tuple[str, int, int, str, int]],
) -> None:
    weights = {"A": 1.0, "B": 2.0, "C": 0.5}
    boards = [board(f"r{index}", **weights) for index in range(3)]
    told: dict[int, dict[tuple[int, str], int]] = defaultdict(dict)
    now = 0.0
    for step, replica, priority, flow, queued in steps:
        now += 0.01
        for found in boards:
            name = f"r{replica}"
            if step == "tell":
                tell(found, name, FlowDemand(priority, flow, queued), now=now)
            elif step == "forget":
                found.forget(name)
        if step == "tell":
            told[replica][priority, flow] = queued
        elif step == "forget":
            told[replica].clear()
    for priority in (0, 1):
        parts = [
            sum(
                weights[name] * queued / sum(told[other].get((band, name), 0) for other in range(3))
                for (band, name), queued in told[replica].items()
                if band == priority and queued
            )
            for replica in range(3)
        ]
        for replica, found in enumerate(boards):
            others = sum(parts) - parts[replica]
            expected = parts[replica] / sum(parts) if others > 1e-9 else 1.0
            assert found.share(priority) == pytest.approx(expected, abs=1e-6)
