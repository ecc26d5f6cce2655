"""The regime follows the load, with patience, and says why."""

import pytest

from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.testing.builders import an_endpoint
from pointsman_datalayer.core.pool_load import PoolLoad, endpoint_saturation, measure_load
from pointsman_datalayer.core.scarcity_regime import ScarcityRegime, scarcity_name


def a_load(
    saturation: float = 0.0,
    *,
    ready: int = 3,
    work: int = 1,
    stale: int = 0,
    untried: int = 0,
    never_read: int = 0,
) -> PoolLoad:
    return PoolLoad(
        ready=ready,
        untried=untried,
        stale=stale,
        never_read=never_read,
        saturation=saturation,
        waiting=0,
        running=work,
        in_flight=0,
        mean_kv_cache=0.0,
    )


def names(*steps: tuple[float, PoolLoad]) -> list[str]:
    regime = ScarcityRegime(rise_s=1.0, fall_s=5.0)
    return [scarcity_name(regime.update(load, at).scarcity) for at, load in steps]


def test_saturation_is_the_worse_of_queue_and_kv_cache() -> None:
    metrics = EndpointMetrics(waiting_requests=1, kv_cache_utilization=0.4)
    assert endpoint_saturation(metrics) == pytest.approx(0.5)
    assert endpoint_saturation(EndpointMetrics(waiting_requests=10)) == 2.0
    assert endpoint_saturation(EndpointMetrics()) == 1.0


def test_the_load_of_a_pool_counts_stale_endpoints_as_full_and_leaves_others_out() -> None:
    load = measure_load(
        [
            an_endpoint(1, waiting=0, kv=0.4, running=2),
            an_endpoint(2, waiting=0, kv=0.0, read_at=990.0),
            an_endpoint(3, waiting=50, ready=False),
        ],
        in_flight=4,
        now=1_000.5,
        stale_after_s=2.0,
    )
    assert load.saturation == pytest.approx((0.5 + 1.0) / 2)
    assert (load.ready, load.stale, load.running, load.in_flight) == (2, 1, 2, 4)


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (a_load(work=0), "idle"),
        (a_load(0.49), "abundant"),
        (a_load(0.5), "tight"),
        (a_load(0.8), "scarce"),
        (a_load(1.0), "saturated"),
        (a_load(ready=0), "saturated"),
        (a_load(ready=0, untried=3), "unknown"),
        (a_load(stale=3, never_read=3), "unknown"),
        (a_load(work=0, stale=3, saturation=1.0), "saturated"),
    ],
)
def test_the_first_judgement_holds_at_once(load: PoolLoad, name: str) -> None:
    assert names((0.0, load)) == [name]


def test_a_scarcer_regime_is_entered_when_it_has_held() -> None:
    steps = [(0.0, a_load(0.1)), (0.1, a_load(0.9)), (1.0, a_load(0.9)), (1.1, a_load(0.9))]
    assert names(*steps) == ["abundant", "abundant", "abundant", "scarce"]


def test_a_short_peak_changes_nothing() -> None:
    steps = [(0.0, a_load(0.1)), (0.5, a_load(1.5)), (1.0, a_load(0.1)), (1.6, a_load(1.5))]
    assert set(names(*steps)) == {"abundant"}


def test_a_regime_is_left_downwards_later_and_only_with_a_margin() -> None:
    steps = [(0.0, a_load(0.8)), (1.0, a_load(0.76)), (9.0, a_load(0.76)), (10.0, a_load(0.7))]
    assert names(*steps, (14.9, a_load(0.7)), (15.0, a_load(0.7))) == ["scarce"] * 5 + ["tight"]


def test_the_first_ready_endpoint_ends_saturation_at_once() -> None:
    assert names((0.0, a_load(ready=0)), (0.1, a_load(0.1))) == ["saturated", "abundant"]


def test_the_reason_is_in_words() -> None:
    told = ScarcityRegime().update(a_load(0.9, stale=1), 0.0)
    assert told.reason.startswith("saturation 90% over 3 ready endpoints, 0 waiting, 1 running")
    assert "1 with stale metrics" in told.reason
    assert ScarcityRegime().update(a_load(ready=0), 0.0).reason == "no endpoint is ready"


def test_the_time_in_a_regime_is_told() -> None:
    regime = ScarcityRegime()
    regime.update(a_load(0.1), 10.0)
    assert regime.update(a_load(0.2), 12.5).since_s == 2.5
