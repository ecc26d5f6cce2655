"""`static-usage-limit-policy`: one ceiling for all priorities."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StaticUsageLimitPolicy:
    threshold: float = 1.0

    def ceiling(self, priority: int, priorities: Sequence[int]) -> float:
        del priority, priorities
        return self.threshold
