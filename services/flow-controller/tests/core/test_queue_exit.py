import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.queue_exit import (
    PoolRegime,
    QueueExitDecision,
    arrival,
    decide_queue_exit,
    expires_at,
)


@pytest.mark.parametrize(
    ("now", "saturation", "decision"),
    [
        (159.9, 1.0, QueueExitDecision.WAIT),
        (159.9, 0.99, QueueExitDecision.DISPATCH),
        (160.0, 0.0, QueueExitDecision.EXPIRE),
    ],
)
def test_time_goes_before_room(now: float, saturation: float, decision: QueueExitDecision) -> None:
    found = decide_queue_exit(now=now, expires_at=160.0, saturation=saturation, ceiling=1.0)
    assert found is decision


def test_the_limit_is_that_of_the_regime_and_the_longer_one_bounds_all() -> None:
    request = QueuedRequest("r", arrived_at=100.0, ttl_s=60.0, no_endpoint_ttl_s=10.0)
    assert expires_at(request, PoolRegime(empty=False)) == 160.0
    assert expires_at(request, PoolRegime(empty=True)) == 110.0
    assert expires_at(request, PoolRegime(empty=True, since=130.0)) == 140.0
    assert expires_at(request, PoolRegime(empty=True, since=155.0)) == 160.0


@given(
    wall=st.floats(1e9, 2e9),
    skew_s=st.floats(-1e6, 1e6),
    ttl_s=st.one_of(st.floats(0, 3_600), st.just(math.inf)),
)
def test_an_arrival_is_neither_in_the_future_nor_longer_ago_than_the_limit(
    wall: float, skew_s: float, ttl_s: float
) -> None:
    at = arrival(now=500.0, wall=wall, arrived_at_wall=wall - skew_s, ttl_s=ttl_s)
    assert 500.0 - ttl_s <= at <= 500.0


def test_an_arrival_is_told_in_our_own_time() -> None:
    assert arrival(now=500.0, wall=1e9, arrived_at_wall=1e9 - 4.0, ttl_s=60.0) == 496.0
    assert arrival(now=500.0, wall=1e9, arrived_at_wall=0.0, ttl_s=60.0) == 500.0
