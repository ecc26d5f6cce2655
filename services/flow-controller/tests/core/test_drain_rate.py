import pytest

from pointsman_flow_controller.core.drain_rate import DrainRate
from pointsman_flow_controller.core.queue_outcome import QueueExit, QueueOutcome


def test_the_rate_is_that_of_late() -> None:
    rate = DrainRate(0.0)
    for step in range(1_000):
        rate.count(step * 0.1)
    assert rate.per_second(100.0) == pytest.approx(10.0, rel=0.02)
    assert rate.wait_s(50, 100.0) == pytest.approx(5.0, rel=0.02)
    assert (rate.per_second(200.0) or 0.0) < 0.01


def test_nothing_is_known_before_the_first_dispatch() -> None:
    assert DrainRate(0.0).wait_s(5, 10.0) is None


@pytest.mark.parametrize(
    ("wait_s", "retry_after_s"), [(None, 1), (0.0, 1), (1.2, 2), (59.5, 60), (1e9, 60)]
)
def test_a_client_is_told_to_come_again_within_a_minute(
    wait_s: float | None, retry_after_s: int
) -> None:
    way_out = QueueExit(QueueOutcome.EVICTED_TTL, estimated_wait_s=wait_s)
    assert way_out.retry_after_s() == retry_after_s
