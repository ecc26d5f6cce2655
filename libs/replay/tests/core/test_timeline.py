"""The order in which virtual time runs things."""

from pointsman_replay.core.timeline import Timeline


def test_calls_run_in_the_order_of_their_times_and_of_their_making() -> None:
    timeline, said = Timeline(), list[str]()
    timeline.at(2.0, said.append, "later")
    timeline.at(1.0, said.append, "first")
    timeline.at(1.0, said.append, "second")
    timeline.run_until(1.5)
    assert (said, timeline.now) == (["first", "second"], 1.5)
    assert timeline.step()
    assert (said[-1], timeline.now) == ("later", 2.0)
    assert not timeline.step()


def test_a_call_for_the_past_runs_at_once_and_does_not_turn_time_back() -> None:
    timeline, seen = Timeline(), list[float]()
    timeline.run_until(5.0)
    timeline.at(1.0, lambda: seen.append(timeline.now))
    timeline.run_until(5.0)
    assert seen == [5.0]
