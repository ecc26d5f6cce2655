import pytest

from pointsman_flow_controller.core.in_flight_eviction import (
    CONFIRMED_WITHIN_S,
    MOST_AT_ONCE,
    PAUSE_S,
    InFlightEviction,
)
from pointsman_flow_controller.core.queue_outcome import QueueOutcome
from pointsman_flow_controller.testing.controlled_pool import ControlledPool, exit_of

RUNNING = {"old": (-1, 1.0), "new": (-1, 5.0), "lowest": (-3, 2.0)}


def test_the_lowest_priority_ends_first_and_of_it_the_newest() -> None:
    assert InFlightEviction().choose(RUNNING, blocked=9, now=10.0) == ["lowest", "new"]


def test_no_more_end_than_wait_for_room() -> None:
    eviction = InFlightEviction()
    assert eviction.choose(RUNNING, blocked=1, now=10.0) == ["lowest"]
    assert eviction.choose(RUNNING, blocked=1, now=10.0 + PAUSE_S) == []
    assert eviction.choose(RUNNING, blocked=2, now=10.0 + PAUSE_S) == ["new"]


def test_between_two_choices_there_is_a_pause() -> None:
    eviction = InFlightEviction()
    assert len(eviction.choose(RUNNING, blocked=9, now=10.0)) == MOST_AT_ONCE
    assert eviction.choose(RUNNING, blocked=9, now=10.0 + PAUSE_S - 0.01) == []
    assert eviction.next_choice() == 10.0 + PAUSE_S
    assert eviction.choose(RUNNING, blocked=9, now=10.0 + PAUSE_S) == ["old"]


def test_an_end_that_never_comes_is_asked_for_again() -> None:
    eviction = InFlightEviction()
    eviction.choose({"stuck": (-1, 1.0)}, blocked=1, now=10.0)
    later = 10.0 + CONFIRMED_WITHIN_S
    assert eviction.choose({"stuck": (-1, 1.0)}, blocked=1, now=later - 0.01) == []
    assert eviction.choose({"stuck": (-1, 1.0)}, blocked=1, now=later) == ["stuck"]


@pytest.mark.parametrize("allowed", [True, False])
def test_a_blocked_priority_ends_what_runs_below_zero_where_that_is_allowed(
    allowed: bool,
) -> None:
    pool = ControlledPool(room=2, evicts_in_flight=allowed)
    for name in ("batch1", "batch2"):
        pool.ask(name, priority=-1)
        pool.now += 1.0
    waiting = pool.ask("chat")
    assert pool.evicted == (["batch2"] if allowed else [])
    assert waiting.exit is None
    if allowed:
        pool.finish("batch2")  # its edge has ended it
        assert exit_of(waiting).outcome is QueueOutcome.DISPATCHED


def test_nothing_of_zero_or_above_is_ended_and_nothing_for_what_is_below() -> None:
    pool = ControlledPool(room=2, evicts_in_flight=True)
    pool.ask("chat", priority=0)
    pool.ask("batch", priority=-2)
    pool.ask("other-batch", priority=-1)
    assert pool.evicted == []
    pool.ask("waits", priority=0)
    assert pool.evicted == ["batch"]
