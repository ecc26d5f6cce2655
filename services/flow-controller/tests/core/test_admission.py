from typing import Any

import pytest

from pointsman_flow_controller.core.admission import Enter, Occupancy, decide_admission
from pointsman_flow_controller.core.queue_outcome import QueueOutcome

ROOMY = Occupancy(0, 0, 10, 1_000)
NOTHING = Occupancy(0, 0)


def decide(**change: Any) -> Enter | QueueOutcome:
    values: dict[str, Any] = {
        "body_bytes": 100,
        "sheddable": False,
        "gate_closed": True,
        "pool_empty": False,
        "band": ROOMY,
        "total": NOTHING,
        "lower": NOTHING,
        **change,
    }
    return decide_admission(**values)


@pytest.mark.parametrize(
    ("change", "decision"),
    [
        ({}, Enter()),
        ({"sheddable": True}, QueueOutcome.REJECTED_SATURATED),
        ({"sheddable": True, "gate_closed": False}, Enter()),
        ({"sheddable": True, "pool_empty": True}, Enter()),
        ({"band": Occupancy(10, 0, 10, 1_000)}, QueueOutcome.REJECTED_CAPACITY),
        ({"band": Occupancy(9, 900, 10, 1_000)}, Enter()),
        ({"band": Occupancy(1, 901, 10, 1_000)}, QueueOutcome.REJECTED_CAPACITY),
        (
            {"band": Occupancy(10, 0, 10, 1_000), "pool_empty": True},
            QueueOutcome.REJECTED_NO_ENDPOINTS,
        ),
        ({"total": Occupancy(10**6, 10**12)}, Enter()),
        ({"total": Occupancy(5, 50, 5, 0)}, QueueOutcome.REJECTED_CAPACITY),
        ({"total": Occupancy(5, 50, 5, 0), "lower": Occupancy(1, 10)}, Enter(1, 0)),
        ({"total": Occupancy(5, 950, 0, 1_000), "lower": Occupancy(3, 50)}, Enter(0, 50)),
        (
            {"total": Occupancy(5, 950, 0, 1_000), "lower": Occupancy(3, 49)},
            QueueOutcome.REJECTED_CAPACITY,
        ),
    ],
)
def test_a_request_may_wait_where_there_is_place_or_place_can_be_made(
    change: dict[str, Any], decision: Enter | QueueOutcome
) -> None:
    assert decide(**change) == decision
