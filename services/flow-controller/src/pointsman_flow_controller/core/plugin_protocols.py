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

    def dispatched(self, flow: str) -> None:
        """A request of the flow goes, here."""
        ...

    def dispatched_elsewhere(self, flow: str, requests: int) -> None:
        """So many requests of the flow went at other replicas."""
        ...

    def charge(self, flow: str, prompt_tokens: float, output_tokens: float) -> None:
        """The flow is given service, here or at another replica.

        Tokens are first what a request is expected to cost and later the difference to what it
        did cost, which may be negative.
        """
        ...

    def weight(self, flow: str, queued: int) -> float:
        """What the flow is to get, relative to the band's other flows, while `queued` of its
        requests wait at all replicas together: how replicas divide the free capacity."""
        ...

    def inherit(self, previous: "FairnessPolicy") -> None:
        """Go on from the policy that was in force before, if it is of the same kind.

        Called before any flow is told of.
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
    prefilling: int = 0
    """Those whose first token is not out."""
    prefill_tokens: int = 0
    """Their prompt tokens that were not cached."""

    def plus(self, requests: int, *, tokens: int, prefill_tokens: int) -> "PoolLoad":
        """With so many more let go just now, each of so many tokens."""
        return PoolLoad(
            requests=self.requests + requests,
            tokens=self.tokens + requests * tokens,
            unseen=self.unseen + requests,
            prefilling=self.prefilling + requests,
            prefill_tokens=self.prefill_tokens + requests * prefill_tokens,
        )


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
        """1.0 is full, more is possible; never less for a larger load. Asked before each dispatch:
        must not be O(n)."""
        ...


class UsageLimitPolicy(Protocol):
    """Holds capacity back from lower priorities, and tenants to what they may use."""

    @property
    def limits_tenants(self) -> bool:
        """Whether `take` can refuse; while not, it and `spent` are not called."""
        ...

    def ceiling(self, priority: int, priorities: Sequence[int]) -> float:
        """The saturation at which a priority stops. `priorities`: of all bands, highest first."""
        ...

    def take(self, tenant: str, tokens: int, now: float) -> float:
        """Count a request of so many prompt tokens and return 0.0, or refuse it and return in how
        many seconds it would be taken."""
        ...

    def spent(self, tenant: str, requests: float, tokens: float, now: float) -> None:
        """The tenant has used more than was taken, here or at another replica; negative: less."""
        ...

    def inherit(self, previous: "UsageLimitPolicy") -> None:
        """Go on from the policy that was in force before, if it is of the same kind."""
        ...
