from random import Random

import pytest

from pointsman_flow_controller.core.wait_times import WaitTimes


def test_without_waits_there_is_nothing_to_tell() -> None:
    assert WaitTimes().quantile(0.99) == 0.0


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_quantile_is_at_most_a_fifth_too_high(share: float) -> None:
    rng, times = Random(1), WaitTimes()
    waits = sorted(rng.expovariate(2.0) + 0.002 for _ in range(1_000))
    for wait in waits:
        times.add(wait)
    exact = waits[int(share * 1_000) - 1]
    assert exact <= times.quantile(share) <= 1.21 * exact


def test_later_waits_outweigh_earlier_ones() -> None:
    times = WaitTimes()
    for _ in range(2_000):
        times.add(10.0)
    for _ in range(2_000):
        times.add(0.0)
    assert times.quantile(0.5) == 0.0
