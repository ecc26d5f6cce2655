import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_scheduler.core.endpoint_speed import (
    FASTEST,
    SLOWEST,
    EndpointSpeeds,
    ExpectedTtft,
)

LONG, SHORT = ExpectedTtft(0.5, 0.05), ExpectedTtft(0.02, 0.03)


def taught(speeds: EndpointSpeeds, uid: str, v: float, u: float, *, times: int = 200) -> None:
    for number in range(times):
        expected = LONG if number % 2 else SHORT
        ttft_s = v * expected.prefill_s + u * expected.overhead_s
        assert speeds.learn(uid, "vllm/", expected, ttft_s)


def test_where_the_constants_fit_nothing_is_learned() -> None:
    speeds = EndpointSpeeds()
    taught(speeds, "a", 1.0, 1.0)
    assert speeds.of("a", "vllm/") == pytest.approx((1.0, 1.0))


def test_prefill_and_steps_are_told_apart() -> None:
    speeds = EndpointSpeeds()
    taught(speeds, "a", 2.0, 0.5, times=2000)
    v, u = speeds.of("a", "vllm/")
    assert 1.7 < v < 2.1
    assert 0.4 < u < 0.75  # the leak towards 1 counts most where little is seen


def test_a_slow_endpoint_is_told_from_its_kind_and_equals_are_not() -> None:
    speeds = EndpointSpeeds()
    for _ in range(40):
        for uid in ("a", "b", "c"):
            taught(speeds, uid, 1.0, 1.0, times=2)
        taught(speeds, "slow", 3.0, 3.0, times=2)
    of = {uid: speeds.of(uid, "vllm/")[0] for uid in ("a", "slow")}
    assert of["slow"] > 2.5
    assert of["slow"] / of["a"] > 1.8
    speeds = EndpointSpeeds()
    for _ in range(40):
        taught(speeds, "a", 1.0, 1.0, times=2)
        taught(speeds, "b", 1.1, 1.1, times=2)
    assert speeds.of("a", "vllm/") == speeds.of("b", "vllm/")


def test_a_new_endpoint_is_taken_to_be_as_fast_as_its_kind() -> None:
    speeds = EndpointSpeeds()
    taught(speeds, "a", 2.0, 2.0)
    assert speeds.of("new", "vllm/") == pytest.approx((2.0, 2.0), rel=0.15)
    assert speeds.of("new", "sglang/") == (1.0, 1.0)


def test_an_outlier_moves_little() -> None:
    speeds = EndpointSpeeds()
    taught(speeds, "a", 1.0, 1.0)
    speeds.learn("a", "vllm/", LONG, 1000.0)
    assert speeds.of("a", "vllm/")[0] < 1.05


def test_it_can_be_forgotten() -> None:
    speeds = EndpointSpeeds()
    taught(speeds, "a", 1.0, 1.0)
    taught(speeds, "b", 4.0, 4.0)
    speeds.keep({"a"})
    assert speeds.of("b", "other/") == (1.0, 1.0)


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True),
            st.floats(0.0, 1e6),
            st.floats(0.0, 1e6),
        ),
        max_size=60,
    )
)
def test_whatever_is_observed_the_factors_stay_within_bounds(
    observed: list[tuple[float, float, float]],
) -> None:
    speeds = EndpointSpeeds()
    for ttft_s, prefill_s, overhead_s in observed:
        speeds.learn("a", "k", ExpectedTtft(prefill_s, overhead_s), ttft_s)
    for factor in speeds.of("a", "k"):
        assert math.isfinite(factor)
        assert FASTEST <= factor <= SLOWEST
