"""A recommendation comes late, follows load, and does not flap."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_datalayer.core.pool_load import PoolLoad
from pointsman_datalayer.core.replica_recommendation import (
    ReplicaLimits,
    ReplicaRecommendation,
    wanted_replicas,
)

LIMITS = ReplicaLimits(up_s=15.0, down_s=300.0)


def a_load(saturation: float, *, ready: int = 4, stale: int = 0) -> PoolLoad:
    return PoolLoad(
        ready=ready,
        untried=0,
        stale=stale,
        never_read=0,
        saturation=saturation,
        waiting=0,
        running=1,
        in_flight=0,
        mean_kv_cache=0.0,
    )


@pytest.mark.parametrize(
    ("saturation", "limits", "wanted"),
    [
        (0.7, LIMITS, 4),
        (0.71, LIMITS, 5),
        (1.4, LIMITS, 8),
        (0.0, LIMITS, 1),
        (0.0, replace(LIMITS, min_replicas=0), 1),
        (1.4, replace(LIMITS, max_replicas=6), 6),
    ],
)
def test_as_many_as_bring_saturation_to_the_target(
    saturation: float, limits: ReplicaLimits, wanted: int
) -> None:
    assert wanted_replicas(a_load(saturation), limits) == wanted


def follow(*spans: tuple[float, int]) -> list[int | None]:
    """The recommendation at the end of each span of (saturation, seconds)."""
    recommendation, now, told = ReplicaRecommendation(LIMITS), 0.0, list[int | None]()
    for saturation, seconds in spans:
        current = None
        for _ in range(seconds):
            now += 1.0
            current = recommendation.update(a_load(saturation), now)
        told.append(current)
    return told


def test_there_is_none_before_it_has_watched_for_a_while() -> None:
    assert follow((1.4, 15), (1.4, 1)) == [None, 8]


def test_it_rises_when_the_load_has_held_and_falls_much_later() -> None:
    assert follow((0.7, 20), (1.4, 10), (1.4, 10), (0.4, 290), (0.4, 20)) == [4, 4, 8, 8, 4]


def test_a_load_that_swings_does_not_make_it_flap() -> None:
    told = follow((0.7, 20), *[(1.4, 5), (0.2, 5)] * 40)
    assert len(set(told)) == 1


def test_what_is_not_seen_changes_nothing() -> None:
    recommendation = ReplicaRecommendation(LIMITS)
    for second in range(20):
        recommendation.update(a_load(0.7), float(second))
    assert recommendation.update(a_load(1.0, stale=4), 21.0) == 4
    assert recommendation.update(a_load(1.0, ready=0), 400.0) == 4


@given(st.lists(st.floats(0, 5), max_size=400))
def test_it_stays_within_its_bounds_and_its_memory(saturations: list[float]) -> None:
    limits = ReplicaLimits(min_replicas=2, max_replicas=9, up_s=3.0, down_s=20.0)
    recommendation = ReplicaRecommendation(limits)
    for second, saturation in enumerate(saturations):
        replicas = recommendation.update(a_load(saturation), second / 2)
        assert replicas is None or 2 <= replicas <= 9
    assert len(recommendation._seen) <= 22


def a_forecast(
    utilization: float | None = None, ttft_s: float | None = None, *, own_s: float = 0.2
) -> PoolLoad:
    return replace(a_load(0.0), utilization=utilization, predicted_ttft_s=ttft_s, own_ttft_s=own_s)


@pytest.mark.parametrize(
    ("load", "wanted"),
    [
        (a_forecast(0.35), 2),
        (a_forecast(0.71), 5),
        (a_forecast(ttft_s=2.0), 4),
        (a_forecast(ttft_s=2.1), 5),
        (a_forecast(ttft_s=9.0, own_s=3.0), 8),
        (a_forecast(0.1, ttft_s=3.0), 7),
        (a_forecast(50.0), 8),
    ],
)
def test_the_most_of_saturation_utilization_and_time_to_first_token(
    load: PoolLoad, wanted: int
) -> None:
    assert wanted_replicas(load, LIMITS) == wanted


def test_without_an_slo_the_time_to_first_token_is_not_looked_at() -> None:
    assert wanted_replicas(a_forecast(0.35, 60.0), replace(LIMITS, ttft_slo_s=0.0)) == 2


def test_who_has_just_begun_to_look_does_not_take_replicas_away() -> None:
    recommendation, told = ReplicaRecommendation(LIMITS), set[int | None]()
    for second in range(316):
        told.add(recommendation.update(a_load(0.0), float(second)))
    assert told == {None, 4}
    for second in range(316, 320):
        recommendation.update(a_load(0.0), float(second))
    assert recommendation.update(a_load(0.0), 320.0) == 1


def test_an_idle_pool_goes_to_zero_when_it_may_and_comes_back_at_once() -> None:
    recommendation = ReplicaRecommendation(replace(LIMITS, min_replicas=0))
    for second in range(20):
        recommendation.update(a_load(0.0), float(second))
    idle = replace(a_load(0.0), running=0, idle_s=600.0, scale_to_zero=True)
    assert recommendation.update(idle, 620.0) == 0
    assert recommendation.reason == "idle for 600 s"
    assert recommendation.update(replace(idle, ready=0, saturation=1.0), 700.0) == 0
    asked = replace(a_load(1.0, ready=0), running=0, queued=3)
    assert recommendation.update(asked, 701.0) == 1
    assert recommendation.reason == "no replica, and 3 requests"


def test_a_pool_that_must_keep_a_replica_keeps_it_however_idle() -> None:
    idle = replace(a_load(0.0), running=0, idle_s=600.0, scale_to_zero=True)
    recommendation = ReplicaRecommendation(LIMITS)
    for second in range(400):
        recommendation.update(idle, float(second))
    assert recommendation.update(idle, 400.0) == 1


def test_one_endpoint_out_of_sight_among_many_does_not_stop_it() -> None:
    recommendation = ReplicaRecommendation(LIMITS)
    for second in range(40):
        told = recommendation.update(
            replace(a_load(0.7 * 9 / 10 + 0.1, ready=10), stale=1), float(second)
        )
    assert told == 10


def test_the_reason_names_what_decides_and_what_holds_it() -> None:
    recommendation = ReplicaRecommendation(LIMITS)
    for second in range(20):
        recommendation.update(a_forecast(1.2), float(second))
    assert recommendation.reason == "utilization 120% of 4 ready, aiming at 70%"
    recommendation.update(a_forecast(0.2), 21.0)
    assert "that is 2, but more were asked for within 300 s" in recommendation.reason


LOADS = st.lists(st.tuples(st.floats(0, 4), st.floats(0, 4), st.floats(0, 20)), max_size=200)


def loads_of(steps: list[tuple[float, float, float]], extra: float) -> list[PoolLoad]:
    return [
        replace(
            a_load(saturation + extra),
            utilization=utilization + extra,
            predicted_ttft_s=ttft_s + extra,
        )
        for saturation, utilization, ttft_s in steps
    ]


@given(LOADS, st.floats(0, 3))
def test_a_higher_load_is_never_given_fewer_replicas(
    steps: list[tuple[float, float, float]], extra: float
) -> None:
    limits = ReplicaLimits(up_s=3.0, down_s=20.0)
    low, high = ReplicaRecommendation(limits), ReplicaRecommendation(limits)
    pairs = zip(loads_of(steps, 0.0), loads_of(steps, extra), strict=True)
    for second, (load, more) in enumerate(pairs):
        one, other = low.update(load, float(second)), high.update(more, float(second))
        assert (one is None) == (other is None)
        assert (one or 0) <= (other or 0)


# 0.734375 lies where the noise just reaches the next replica, and rarely.
@pytest.mark.parametrize("level", [0.05, 0.3, 0.7, 0.734375, 0.9, 1.3])
@pytest.mark.parametrize("seed", [1, 218])
def test_noise_around_a_steady_load_moves_it_by_one_replica_and_turns_it_round_at_most_once(
    level: float, seed: int
) -> None:
    rng = Random(seed)
    recommendation, told = ReplicaRecommendation(LIMITS), list[int]()
    for second in range(900):
        noisy = max(0.0, level * (1.0 + rng.uniform(-0.1, 0.1)))
        current = recommendation.update(a_forecast(noisy), float(second))
        if current is not None:
            told.append(current)
    steps = [b - a for a, b in pairwise(told) if a != b]
    assert sum(a * b < 0 for a, b in pairwise(steps)) <= 1
    late = set(told[500:])
    assert max(late) - min(late) <= 1


@given(st.lists(st.floats(0, 3), min_size=1, max_size=600))
def test_after_a_rise_there_is_no_fall_for_the_whole_window(levels: list[float]) -> None:
    limits = ReplicaLimits(up_s=5.0, down_s=60.0)
    recommendation, rose_at, before = ReplicaRecommendation(limits), float("-inf"), None
    for second, level in enumerate(levels):
        current = recommendation.update(a_forecast(level), float(second))
        if before is not None and current is not None:
            if current > before:
                rose_at = second
            elif current < before:
                assert second - rose_at > limits.down_s
        before = current
