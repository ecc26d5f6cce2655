"""What is predicted from the requests is added to what the engines report."""

from dataclasses import replace

import pytest

from pointsman_common.testing.builders import an_endpoint
from pointsman_datalayer.core.pool_demand import Demand, OpenWork
from pointsman_datalayer.core.pool_load import PoolLoad, measure_load, with_demand

DEMAND = Demand(
    requests_per_s=4.0,
    work_per_s=3.0,
    prefill_token_s=1e-4,
    own_ttft_s=0.1,
    mean_prefill_tokens=1000.0,
)


def a_load(ready: int = 4, *, queued: int = 0, demand: Demand = DEMAND) -> PoolLoad:
    seen = measure_load(
        [an_endpoint(number, kv=0.08) for number in range(ready)],
        in_flight=2,
        now=1_000.0,
        stale_after_s=2.0,
    )
    return with_demand(seen, demand, OpenWork(20_000), queued=queued, ttft_slo_s=2.0)


def test_utilization_is_the_work_over_the_ready_endpoints() -> None:
    assert a_load().utilization == 0.75
    assert a_load(ready=0).utilization is None
    assert a_load(demand=Demand()).utilization is None


def test_the_time_to_first_token_counts_what_is_ahead_in_engines_and_queues() -> None:
    assert a_load().predicted_ttft_s == pytest.approx(0.1 + 1e-4 * 20_000 / 4)
    assert a_load(queued=40).predicted_ttft_s == pytest.approx(0.1 + 1e-4 * 60_000 / 4)


def test_pressure_is_the_worst_but_a_predicted_utilization_alone_does_not_make_a_pool_full() -> (
    None
):
    assert a_load().pressure == pytest.approx(0.75)
    assert replace(a_load(), utilization=3.0).pressure == 0.99
    assert replace(a_load(), predicted_ttft_s=3.0).pressure == 1.5
    assert replace(a_load(), predicted_ttft_s=3.0, ttft_slo_s=0.0).pressure == 0.75
