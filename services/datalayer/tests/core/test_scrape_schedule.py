"""Pace, spread, and never twice at once."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_datalayer.core.scrape_schedule import JITTER, ScrapeIntervals, ScrapeSchedule


def a_schedule(*uids: str) -> ScrapeSchedule:
    schedule = ScrapeSchedule(ScrapeIntervals(busy_s=0.05, idle_s=0.5), Random(1))
    schedule.follow(uids, 100.0)
    return schedule


def a_settled_schedule(*uids: str) -> ScrapeSchedule:
    """Each endpoint has been scraped once, and is due again by 101."""
    schedule = a_schedule(*uids)
    for uid in schedule.start_due(100.2):
        schedule.finish(uid, 100.2, busy=True)
    return schedule


def test_new_endpoints_are_due_within_one_interval() -> None:
    schedule = a_schedule("a", "b", "c")
    assert sorted(schedule.start_due(100.05)) == ["a", "b", "c"]


def test_new_endpoints_come_in_the_order_given_and_no_faster_than_may_be() -> None:
    schedule = ScrapeSchedule(ScrapeIntervals(busy_s=1.0, idle_s=1.0), Random(1), most_per_s=100)
    schedule.follow([f"{number:02}" for number in range(50)], 100.0)
    assert schedule.start_due(100.105) == [f"{number:02}" for number in range(11)]
    assert schedule.start_due(100.5) == [f"{number:02}" for number in range(11, 50)]


def test_one_that_has_fallen_behind_does_not_take_up_everything_at_once() -> None:
    schedule = ScrapeSchedule(ScrapeIntervals(busy_s=1.0, idle_s=1.0), Random(1), most_per_s=100)
    schedule.follow([str(number) for number in range(50)], 100.0)
    counts = [len(schedule.start_due(200.0, 0.05)) for _ in range(6)]
    assert counts == [10, 10, 10, 10, 10, 0]


def test_those_that_came_together_are_spread_over_an_interval_by_their_second_scrape() -> None:
    schedule = ScrapeSchedule(ScrapeIntervals(busy_s=1.0, idle_s=1.0), Random(1))
    schedule.follow([str(number) for number in range(1000)], 100.0)
    for uid in schedule.start_due(100.0):
        schedule.finish(uid, 100.0, busy=True)
    counts = [len(schedule.start_due(100.0 + tenth / 10)) for tenth in range(1, 10)]
    assert all(60 < count < 140 for count in counts)


def test_an_endpoint_is_not_started_again_before_it_has_finished() -> None:
    schedule = a_schedule("a")
    assert schedule.start_due(101.0) == ["a"]
    assert schedule.start_due(200.0) == []
    schedule.finish("a", 200.0, busy=True)
    assert schedule.start_due(200.0) == ["a"]


def test_the_next_scrape_is_counted_from_the_start_of_the_last() -> None:
    schedule = a_settled_schedule("a")
    schedule.start_due(101.0)
    schedule.finish("a", 101.03, busy=True)
    assert schedule.start_due(101.04) == []
    assert schedule.start_due(101.0 + 0.05 * (1 + JITTER)) == ["a"]


def test_an_idle_pool_is_scraped_slowly_and_hastened_when_work_comes() -> None:
    schedule = a_settled_schedule("a")
    schedule.start_due(101.0)
    schedule.finish("a", 101.0, busy=False)
    assert schedule.start_due(101.4) == []
    schedule.hasten(["a", "unknown"], 101.4)
    assert schedule.start_due(101.45) == ["a"]


def test_to_hasten_never_delays() -> None:
    schedule = a_settled_schedule("a")
    schedule.start_due(101.0)
    schedule.finish("a", 101.0, busy=True)
    schedule.hasten(["a"], 101.0)
    assert schedule.start_due(101.056) == ["a"]


def test_an_endpoint_that_is_gone_is_forgotten_even_while_it_is_scraped() -> None:
    schedule = a_schedule("a", "b")
    schedule.start_due(101.0)
    schedule.follow(["b"], 101.0)
    for uid in ("a", "b"):
        schedule.finish(uid, 101.0, busy=True)
    assert schedule.start_due(200.0) == ["b"]
    assert len(schedule) == 1


@given(st.integers(1, 200), st.floats(0, 1), st.integers(100, 2000))
@settings(max_examples=30)
def test_no_more_are_started_than_may_be_and_each_gets_its_turn(
    count: int, busy_share: float, most_per_s: int
) -> None:
    intervals = ScrapeIntervals(busy_s=0.05, idle_s=0.5)
    schedule = ScrapeSchedule(intervals, Random(1), most_per_s=most_per_s)
    schedule.follow([str(number) for number in range(count)], 0.0)
    started: list[str] = []
    for tick in range(400):  # ten seconds, after ten in which it settles
        for uid in schedule.start_due(now := tick / 20):
            schedule.finish(uid, now, busy=int(uid) < busy_share * count)
            started += [uid] if tick >= 200 else []
    assert len(started) <= 1.1 * 10 * most_per_s
    assert len(set(started)) == count


@given(st.lists(st.sampled_from("+-dfh"), max_size=60), st.randoms(use_true_random=False))
def test_whatever_happens_each_endpoint_is_planned_exactly_once(
    steps: list[str], rng: Random
) -> None:
    schedule, followed, started, now = a_schedule(), {"a"}, set[str](), 100.0
    schedule.follow(sorted(followed), now)
    for step in steps:
        now += rng.random()
        uid = rng.choice("abc")
        if step == "+":
            followed.add(uid)
        elif step == "-":
            followed.discard(uid)
        schedule.follow(sorted(followed), now)
        started &= followed
        if step == "d":
            due = schedule.start_due(now)
            assert not started & set(due)
            assert len(due) == len(set(due))
            started |= set(due)
        elif step == "f":
            schedule.finish(uid, now, busy=rng.random() < 0.5)
            started.discard(uid)
        elif step == "h":
            schedule.hasten([uid], now)
        assert len(schedule) == len(followed)
    assert set(schedule.start_due(now + 10)) == followed - started
