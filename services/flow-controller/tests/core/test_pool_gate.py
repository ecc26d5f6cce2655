import pytest

from pointsman_common.testing.builders import an_endpoint
from pointsman_flow_controller.core.in_flight_ledger import InFlightLedger
from pointsman_flow_controller.core.pool_gate import ROLE_LABEL, PoolGate, split_by_stage
from pointsman_flow_controller.plugins.saturation.concurrency import ConcurrencyDetector
from pointsman_flow_controller.plugins.saturation.utilization import UtilizationDetector


@pytest.fixture
def gate() -> PoolGate:
    return PoolGate(
        lambda: UtilizationDetector(
            queue_depth_threshold=5, kv_cache_threshold=0.8, staleness_s=2.0
        ),
        lambda: ConcurrencyDetector(max_requests=4, max_tokens=1),
        InFlightLedger(),
    )


def test_a_pool_without_endpoints_is_full(gate: PoolGate) -> None:
    gate.observe([], 1_000.0)
    assert gate.empty
    assert gate.saturation(1_000.0) == 1.0


def test_one_stage_is_the_pool(gate: PoolGate) -> None:
    gate.observe([an_endpoint(1, waiting=2), an_endpoint(2, waiting=4)], 1_000.0)
    assert gate.by_stage(1_000.0) == {"effective": pytest.approx(0.6)}


def test_the_fuller_stage_decides(gate: PoolGate) -> None:
    gate.observe(
        [
            an_endpoint(1, waiting=4, labels={ROLE_LABEL: "prefill"}),
            an_endpoint(2, waiting=0, labels={ROLE_LABEL: "decode"}),
            an_endpoint(3, waiting=2),
            an_endpoint(4, waiting=50, labels={ROLE_LABEL: "encode"}),
        ],
        1_000.0,
    )
    assert gate.by_stage(1_000.0) == {
        "effective": pytest.approx(0.6),
        "prefill": pytest.approx(0.6),
        "decode": pytest.approx(0.2),
    }


def test_a_pool_whose_endpoints_do_both_has_one_stage() -> None:
    both = [an_endpoint(1), an_endpoint(2, labels={ROLE_LABEL: "prefill-decode"})]
    assert split_by_stage(both) == {"effective": both}


def test_a_silent_pool_is_judged_by_what_is_in_flight(gate: PoolGate) -> None:
    gate.observe([an_endpoint(1)], 1_000.0)
    gate.ledger.opened("a", endpoint="e1", tokens=1, prefill_tokens=1, now=1_000.0)
    assert gate.saturation(1_050.0) == pytest.approx(1.2)
    gate.blind = True
    assert gate.saturation(1_050.0) == pytest.approx(0.25)
