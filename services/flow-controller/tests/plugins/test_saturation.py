import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.endpoint import Endpoint
from pointsman_common.testing.builders import an_endpoint
from pointsman_flow_controller.core.plugin_protocols import PoolLoad
from pointsman_flow_controller.plugins.saturation.concurrency import (
    ConcurrencyDetector,
    ConcurrencyMode,
)
from pointsman_flow_controller.plugins.saturation.predicted_ttft import PredictedTtftDetector
from pointsman_flow_controller.plugins.saturation.utilization import UtilizationDetector


def utilization(*endpoints: Endpoint, unseen: int = 0, now: float = 1_000.0) -> float:
    detector = UtilizationDetector(queue_depth_threshold=5, kv_cache_threshold=0.8, staleness_s=0.2)
    detector.observe(endpoints, now)
    return detector.saturation(PoolLoad(requests=unseen, unseen=unseen), now)


@pytest.mark.parametrize(
    ("waiting", "kv", "expected"),
    [(0, 0.0, 0.0), (4, 0.1, 0.8), (1, 0.6, 0.75), (5, 0.0, 1.0), (50, 0.1, 10.0), (0, 0.8, 1.0)],
)
def test_the_fuller_of_queue_and_cache_speaks_for_an_endpoint(
    waiting: int, kv: float, expected: float
) -> None:
    assert utilization(an_endpoint(1, waiting=waiting, kv=kv)) == pytest.approx(expected)


def test_the_mean_of_the_endpoints_is_the_pools() -> None:
    found = utilization(an_endpoint(1, waiting=5), an_endpoint(2), an_endpoint(3, kv=0.4))
    assert found == pytest.approx(0.5)


def test_no_endpoints_are_full() -> None:
    assert utilization() == 1.0


def test_stale_and_absent_metrics_count_as_full() -> None:
    fresh, stale = an_endpoint(1), an_endpoint(2, read_at=999.7)
    never = an_endpoint(3, read_at=None)
    nothing = an_endpoint(4, waiting=None, kv=None)
    assert utilization(fresh, stale, never, nothing) == pytest.approx(0.75)


def test_of_two_values_the_one_that_is_known_speaks() -> None:
    assert utilization(an_endpoint(1, waiting=None, kv=0.4)) == pytest.approx(0.5)
    assert utilization(an_endpoint(1, waiting=2, kv=None)) == pytest.approx(0.4)


def test_metrics_become_stale_while_time_passes() -> None:
    detector = UtilizationDetector(queue_depth_threshold=5, kv_cache_threshold=0.8, staleness_s=0.2)
    detector.observe([an_endpoint(1, read_at=1_000.0), an_endpoint(2, read_at=1_000.1)], 1_000.1)
    seen = [detector.saturation(PoolLoad(), at) for at in (1_000.19, 1_000.25, 1_000.31)]
    assert seen == [0.0, 0.5, 1.0]
    assert detector.stale_endpoints == 2


def test_what_the_metrics_cannot_show_yet_counts_as_waiting() -> None:
    pool = [an_endpoint(1, waiting=3), an_endpoint(2)]
    assert utilization(*pool, unseen=6) == pytest.approx(0.9)
    assert utilization(*pool, unseen=7) >= 1.0


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.3, 9.0])),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 50),
)
def test_the_running_sum_equals_the_formula(
    states: list[tuple[int, float, float]], unseen: int
) -> None:
    endpoints = [
        an_endpoint(index, waiting=waiting, kv=kv, read_at=1_000.0 - age_s)
        for index, (waiting, kv, age_s) in enumerate(states)
    ]
    parts = [
        1.0 if item.metrics.age_s(1_000.0) > 0.2 else max(waiting / 5, kv / 0.8)
        for item, (waiting, kv, _) in zip(endpoints, states, strict=True)
    ]
    expected = (sum(parts) + unseen / 5) / len(parts)
    assert utilization(*endpoints, unseen=unseen) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("mode", "expected"), [("requests", 0.5), ("tokens", 0.75), ("hybrid", 0.75)]
)
def test_concurrency_is_what_is_in_flight_over_what_fits(
    mode: ConcurrencyMode, expected: float
) -> None:
    detector = ConcurrencyDetector(max_requests=10, max_tokens=1_000, mode=mode)
    assert detector.saturation(PoolLoad(requests=1), 0.0) == 1.0
    detector.observe([an_endpoint(1), an_endpoint(2)], 0.0)
    assert detector.saturation(PoolLoad(requests=10, tokens=1_500), 0.0) == pytest.approx(expected)


def test_a_pool_is_full_when_a_first_token_would_come_too_late() -> None:
    detector = PredictedTtftDetector(
        target_s=1.0, prefill_s_per_token=1e-3, step_overhead_s=0.0, tokens_per_step=1_000
    )
    detector.observe([an_endpoint(1), an_endpoint(2)], 0.0)
    load = PoolLoad(requests=3, prefilling=3, prefill_tokens=1_000)
    assert detector.saturation(load, 0.0) == pytest.approx(0.5)
    assert detector.saturation(load.plus(1, tokens=1_000, prefill_tokens=1_000), 0.0) == 1.0
    detector.observe([], 0.0)
    assert detector.saturation(PoolLoad(), 0.0) == 1.0


def test_the_steps_of_a_prefill_wait_for_what_decodes() -> None:
    detector = PredictedTtftDetector(
        target_s=1.0, prefill_s_per_token=0.0, step_overhead_s=0.1, tokens_per_step=100
    )
    detector.observe([an_endpoint(1)], 0.0)
    idle = PoolLoad(requests=1, prefilling=1, prefill_tokens=100)
    busy = PoolLoad(requests=51, prefilling=1, prefill_tokens=100)
    assert detector.saturation(idle, 0.0) == pytest.approx(0.2)
    assert detector.saturation(busy, 0.0) == pytest.approx(0.3)


def test_an_endpoint_without_a_free_slot_is_full() -> None:
    detector = PredictedTtftDetector(target_s=100.0, max_sequences=4)
    detector.observe([an_endpoint(1)], 0.0)
    assert detector.saturation(PoolLoad(requests=4), 0.0) == 1.0
