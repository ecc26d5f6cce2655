"""Pace, spread, and never twice at once."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pointsman_datalayer.core.scrape_schedule import JITTER, ScrapeIntervals, ScrapeSchedule


def a_schedule(*uids: str) -> ScrapeSchedule:
    schedule = ScrapeSchedule(ScrapeIntervals(busy_s=0.05, idle_s=0.5), Random(1))
    schedule.follow(uids, 100.0)
    return schedule


def test_new_endpoints_are_due_within_one_interval() -> None:
    schedule = a_schedule("a", "b", "c")
    assert sorted(schedule.start_due(100.05)) == ["a", "b", "c"]


def test_an_endpoint_is_not_started_again_before_it_has_finished() -> None:
    schedule = a_schedule("a")
    assert schedule.start_due(101.0) == ["a"]
    assert schedule.start_due(200.0) == []
    schedule.finish("a", 200.0, busy=True)
    assert schedule.start_due(200.0) == ["a"]


def test_the_next_scrape_is_counted_from_the_start_of_the_last() -> None:
    schedule = a_schedule("a")
    schedule.start_due(101.0)
    schedule.finish("a", 101.03, busy=True)
    assert schedule.start_due(101.04) == []
    assert schedule.start_due(101.0 + 0.05 * (1 + JITTER)) == ["a"]


def test_an_idle_pool_is_scraped_slowly_and_hastened_when_work_comes() -> None:
    schedule = a_schedule("a")
    schedule.start_due(101.0)
    schedule.finish("a", 101.0, busy=False)
    assert schedule.start_due(101.4) == []
    schedule.hasten(["a", "unknown"], 101.4)
    assert schedule.start_due(101.45) == ["a"]


def test_to_hasten_never_delays() -> None:
    schedule = a_schedule("a")
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


@given(st.lists(st.sampled_from("+-dfh"), max_size=60), st.randoms(use_true_random=False))
def test_whatever_happens_each_endpoint_is_planned_exactly_once(
    steps: list[str], rng: Random
) -> None:
    schedule, followed, started, now = a_schedule(), {"a"}, set[str](), 100.0
    schedule.follow(followed, now)
    for step in steps:
        now += rng.random()
        uid = rng.choice("abc")
        if step == "+":
            followed.add(uid)
        elif step == "-":
            followed.discard(uid)
        schedule.follow(followed, now)
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
