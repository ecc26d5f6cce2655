"""`static-usage-limit-policy`: one ceiling for all priorities."""

from collections.abc import Sequence
from dataclasses import dataclass

from pointsman_flow_controller.core.plugin_protocols import UsageLimitPolicy


@dataclass(frozen=True, slots=True)
class StaticUsageLimitPolicy:
    threshold: float = 1.0

    def ceiling(self, priority: int, priorities: Sequence[int]) -> float:
        del priority, priorities
        return self.threshold

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
