"""Which connection takes a call: fewest open calls, turns, and those passed over."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.balancing.backoff import BackoffRules
from wire.balancing.balancer import Balancer

STEADY = BackoffRules(first_s=1.0, factor=2.0, longest_s=10.0, jitter=0.0)


class Line:
    def __init__(self, open_calls: int = 0) -> None:
        self.open_calls = open_calls


def balancer_of(*lines: Line, rules: BackoffRules = STEADY) -> Balancer[Line]:
    balancer = Balancer[Line](rules, Random(1))
    for line in lines:
        balancer.set_ready(line, True, 0.0)
    return balancer


def test_nothing_is_picked_of_nothing() -> None:
    assert balancer_of().pick(0.0) is None


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_a_call_goes_where_the_fewest_are_open(loads: list[int]) -> None:
    picked = balancer_of(*map(Line, loads)).pick(0.0)
    assert picked is not None
    assert picked.open_calls == min(loads)


@given(st.integers(2, 8), st.integers(1, 10))
def test_calls_that_stay_open_spread_evenly(count: int, rounds: int) -> None:
    lines = [Line() for _ in range(count)]
    balancer = balancer_of(*lines)
    for _ in range(count * rounds):
        picked = balancer.pick(0.0)
        assert picked is not None
        picked.open_calls += 1
    assert {line.open_calls for line in lines} == {rounds}


@given(st.integers(2, 8))
def test_ties_take_turns(count: int) -> None:
    lines = [Line() for _ in range(count)]
    balancer = balancer_of(*lines)
    picks = Counter(balancer.pick(0.0) for _ in range(count * 10))
    assert set(picks.values()) == {10}


def test_one_that_failed_is_passed_over_for_a_time_that_grows_until_it_answers() -> None:
    good, bad = Line(open_calls=5), Line()
    balancer = balancer_of(good, bad)
    now = 0.0
    for wait_s in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
        balancer.failed(bad, now)
        assert balancer.pick(now + wait_s - 0.01) is good
        now += wait_s
        assert balancer.pick(now) is bad
    balancer.succeeded(bad, now)
    assert not balancer.has_failures
    balancer.failed(bad, now)
    assert balancer.pick(now + 1.0) is bad


def test_calls_that_fail_together_count_once() -> None:
    good, bad = Line(), Line()
    balancer = balancer_of(good, bad)
    for _ in range(64):
        balancer.failed(bad, 0.0)
    assert balancer.pick_among(1.0, lambda line: line is bad) is bad
    balancer.succeeded(bad, 1.0)
    assert not balancer.has_failures


def test_an_answer_to_a_call_begun_before_the_failure_changes_nothing() -> None:
    good, bad = Line(open_calls=1), Line()
    balancer = balancer_of(good, bad)
    balancer.failed(bad, 0.0)
    balancer.succeeded(bad, 0.5)
    assert balancer.pick(0.5) is good


def test_when_all_have_failed_the_one_whose_failure_is_oldest_is_tried() -> None:
    first, second, third = Line(9), Line(), Line()
    balancer = balancer_of(first, second, third)
    for at, line in enumerate((first, second, third)):
        balancer.failed(line, at / 10)
    assert balancer.pick(0.5) is first
    balancer.failed(first, 0.5)
    assert balancer.pick(0.6) is second
    assert balancer.pick_among(0.6, lambda line: line is not second) is third


def test_one_that_is_not_ready_is_not_picked_and_its_failures_are_kept() -> None:
    good, bad = Line(open_calls=3), Line()
    balancer = balancer_of(good, bad)
    balancer.failed(bad, 0.0)
    balancer.set_ready(bad, False, 0.1)
    assert balancer.ready == [good]
    balancer.set_ready(bad, True, 0.2)
    assert balancer.pick(0.3) is good
    balancer.forget(bad, 0.4)
    assert not balancer.has_failures
    assert balancer.pick_among(2.0, lambda line: line is bad) is None


Step = tuple[str, int, float]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ready", "lost", "failed", "succeeded", "begun", "ended"]),
            st.integers(0, 3),
            st.floats(0.0, 3.0),
        ),
        max_size=60,
    )
)
def test_as_long_as_one_is_ready_one_is_picked_and_never_another(steps: list[Step]) -> None:
    lines = [Line() for _ in range(4)]
    balancer = balancer_of(rules=BackoffRules(first_s=0.5, factor=2.0, longest_s=8.0))
    ready: set[Line] = set()
    now = 0.0
    for what, index, later in steps:
        now += later
        line = lines[index]
        if what in ("ready", "lost"):
            balancer.set_ready(line, what == "ready", now)
            ready = ready | {line} if what == "ready" else ready - {line}
        elif what == "failed":
            balancer.failed(line, now)
        elif what == "succeeded":
            balancer.succeeded(line, now)
        else:
            line.open_calls = max(0, line.open_calls + (1 if what == "begun" else -1))
        picked = balancer.pick(now)
        assert picked in ready if ready else picked is None
        among = balancer.pick_among(now, lambda one: one in lines[:2])
        assert among in ready & set(lines[:2]) if ready & set(lines[:2]) else among is None
    later = now + 100.0  # longer than any is passed over
    if ready:
        assert balancer.pick(later) in {
            line for line in ready if line.open_calls == min(one.open_calls for one in ready)
        }


@given(st.integers(0, 10_000), st.integers(0, 100))
def test_a_wait_stays_within_its_jitter_however_many_failures(failures: int, seed: int) -> None:
    rules = BackoffRules(first_s=0.1, factor=2.0, longest_s=5.0, jitter=0.2)
    wait_s = rules.wait_s(failures, Random(seed))
    assert 0.08 <= wait_s <= 6.0
    expected = min(0.1 * 2.0 ** min(failures, 64), 5.0)
    assert wait_s == pytest.approx(expected, rel=0.2001)
