import pytest

from pointsman_flow_controller.plugins.usage_limits.priority_holdback import (
    PriorityHoldbackPolicy,
)
from pointsman_flow_controller.plugins.usage_limits.static_limit import StaticUsageLimitPolicy


def test_one_ceiling_holds_for_all() -> None:
    assert StaticUsageLimitPolicy(0.7).ceiling(-5, [10, -5]) == 0.7


@pytest.mark.parametrize(
    ("domain", "ceilings"), [("rank", [1.0, 0.75, 0.5]), ("value", [1.0, 0.95, 0.5])]
)
def test_ceilings_fall_with_the_priority(domain: str, ceilings: list[float]) -> None:
    policy = PriorityHoldbackPolicy(0.5, 1.0, domain)  # type: ignore[arg-type]  # parametrized
    priorities = [10, 9, 0]
    found = [policy.ceiling(priority, priorities) for priority in priorities]
    assert found == pytest.approx(ceilings)


def test_one_band_alone_has_all() -> None:
    assert PriorityHoldbackPolicy(0.5, 0.9).ceiling(3, [3]) == 0.9
