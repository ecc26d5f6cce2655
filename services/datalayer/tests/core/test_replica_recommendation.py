"""A recommendation comes late, follows load, and does not flap."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_datalayer.core.replica_recommendation import (
    ReplicaLimits,
    ReplicaRecommendation,
    wanted_replicas,
)
from pointsman_datalayer.core.scarcity_regime import PoolLoad

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
        (0.0, replace(LIMITS, min_replicas=0), 0),
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
    assert follow((0.7, 20), (1.4, 10), (1.4, 10), (0.7, 290), (0.7, 20)) == [4, 4, 8, 8, 4]


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
