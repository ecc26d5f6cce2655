"""`priority-holdback-policy`: the lower the priority, the earlier it stops."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pointsman_flow_controller.core.plugin_protocols import UsageLimitPolicy


@dataclass(frozen=True, slots=True)
class PriorityHoldbackPolicy:
    """Ceilings from `max_ceiling` for the highest band down to `min_ceiling` for the lowest.

    In equal steps by rank, or in proportion to the priorities' values. One band alone has
    `max_ceiling`. Source: llm-d-router's priority-holdback-policy.
    """

    min_ceiling: float
    max_ceiling: float = 1.0
    domain: Literal["rank", "value"] = "rank"

    def ceiling(self, priority: int, priorities: Sequence[int]) -> float:
        if len(priorities) < 2 or priority not in priorities:
            return self.max_ceiling
        if self.domain == "rank":
            below = priorities.index(priority) / (len(priorities) - 1)
        else:
            below = (priorities[0] - priority) / (priorities[0] - priorities[-1])
        return self.max_ceiling - below * (self.max_ceiling - self.min_ceiling)

    @property
    def limits_tenants(self) -> bool:
        return False

    def take(self, tenant: str, tokens: int, now: float) -> float:
        del tenant, tokens, now
        return 0.0

    def spent(self, tenant: str, requests: float, tokens: float, now: float) -> None:
        """Nobody is limited."""

    def inherit(self, previous: UsageLimitPolicy) -> None:
        """Nothing is kept."""
