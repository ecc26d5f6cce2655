"""What a plugin has to offer, by kind. A plugin never sees the bus or the clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pointsman_common.endpoint import Endpoint
from pointsman_flow_controller.core.flow_queue import Order, QueuedRequest


class FairnessPolicy(Protocol):
    """Says which flow of one priority band is next. Each band has its own.

    It is told of every change and need not look at all flows to answer.
    """

    def head_changed(self, flow: str, head: Order | None) -> None:
        """Another request is next in a flow; `None`: none is waiting any more."""
        ...

    def next_flow(self) -> str | None:
        """The flow whose head goes next; `None` when nothing waits. Changes nothing."""
        ...

    def served(self, flow: str, tokens: int) -> None:
        """A request of the flow goes, or more is known of what one costs.

        `tokens` are to be charged to the flow: the prompt's at dispatch, others as they are known.
        """
        ...


class OrderingPolicy(Protocol):
    """Says which request of one flow is next."""

    def rank(self, request: QueuedRequest) -> float:
        """Smaller goes first; equal ranks go by arrival. Asked once, when the request enters."""
        ...


@dataclass(slots=True)
class PoolLoad:
    """Work let go and not yet finished, by leases; of all replicas."""

    requests: int = 0
    tokens: int = 0
    """Prompt and expected output tokens of those requests."""
    unseen: int = 0
    """Those among `requests` that the endpoints' metrics cannot show yet."""


class SaturationDetector(Protocol):
    """Says how full a pool is. Gates the pool as a whole, never one endpoint."""

    @property
    def stale_endpoints(self) -> int:
        """Endpoints whose metrics were not believed at the last answer."""
        ...

    def observe(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Take over the ready endpoints; called after each change of the pool. May be O(n)."""
        ...

    def saturation(self, load: PoolLoad, now: float) -> float:
        """1.0 is full, more is possible. Asked before each dispatch: must not be O(n)."""
        ...


class UsageLimitPolicy(Protocol):
    """Holds capacity back from lower priorities."""

    def ceiling(self, priority: int, priorities: Sequence[int]) -> float:
        """The saturation at which a priority stops. `priorities`: of all bands, highest first."""
        ...
