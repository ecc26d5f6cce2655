"""May a request enter its queue?"""

from typing import NamedTuple

from pointsman_flow_controller.core.queue_outcome import QueueOutcome


class Occupancy(NamedTuple):
    """What waits, and the most that may; 0 as a bound means none."""

    requests: int
    bytes: int
    max_requests: int = 0
    max_bytes: int = 0

    def lack(self, body_bytes: int) -> tuple[int, int]:
        """How many requests and bytes have to leave before one more request fits."""
        requests = self.requests + 1 - self.max_requests if self.max_requests else 0
        too_many_bytes = self.bytes + body_bytes - self.max_bytes if self.max_bytes else 0
        return max(requests, 0), max(too_many_bytes, 0)


class Enter(NamedTuple):
    """The request may wait, once so much of lower priority has been displaced."""

    displace_requests: int = 0
    displace_bytes: int = 0


def decide_admission(
    *,
    body_bytes: int,
    sheddable: bool,
    gate_closed: bool,
    pool_empty: bool,
    band: Occupancy,
    total: Occupancy,
    lower: Occupancy,
) -> Enter | QueueOutcome:
    """Decide whether a request that cannot go at once may wait.

    `lower` is what waits at lower priorities, all of which may be displaced. A band that is full
    refuses its newest request: displacing in another band would make no room in this one.
    """
    if sheddable and gate_closed and not pool_empty:
        # With an empty pool even these wait: they may be what makes it scale from zero.
        return QueueOutcome.REJECTED_SATURATED
    full = QueueOutcome.REJECTED_NO_ENDPOINTS if pool_empty else QueueOutcome.REJECTED_CAPACITY
    if any(band.lack(body_bytes)):
        return full
    requests, too_many_bytes = total.lack(body_bytes)
    if requests > lower.requests or too_many_bytes > lower.bytes:
        return full
    return Enter(requests, too_many_bytes)
