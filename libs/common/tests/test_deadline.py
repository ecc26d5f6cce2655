from pointsman_common.deadline import Deadline


def test_time_left_shrinks_to_nothing_and_is_capped_by_a_hops_own_limit() -> None:
    deadline = Deadline.after(100.0, 5.0)
    assert deadline.left(102.0) == 3.0
    assert deadline.left(102.0, at_most=1.0) == 1.0
    assert deadline.left(104.5, at_most=1.0) == 0.5
    assert deadline.left(110.0) == 0.0


def test_a_deadline_has_passed_from_its_moment_on() -> None:
    deadline = Deadline.after(100.0, 5.0)
    assert not deadline.passed(104.999)
    assert deadline.passed(105.0)
