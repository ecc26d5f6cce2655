"""How long a request may wait, and what becomes of the one whose turn it is."""

import math
from dataclasses import dataclass
from enum import Enum

from pointsman_flow_controller.core.flow_queue import QueuedRequest


class QueueExitDecision(Enum):
    DISPATCH = "dispatch"
    EXPIRE = "expire"
    WAIT = "wait"


def decide_queue_exit(
    *, now: float, expires_at: float, saturation: float, ceiling: float
) -> QueueExitDecision:
    """Decide what becomes of the request whose turn it is.

    Times are monotonic seconds; `saturation` is a fraction of pool capacity, 1.0 being full, and
    `ceiling` is the saturation at which the request's priority stops.
    """
    if now >= expires_at:
        # Before capacity: a client that has given up would only waste a prefill.
        return QueueExitDecision.EXPIRE
    return QueueExitDecision.DISPATCH if saturation < ceiling else QueueExitDecision.WAIT


@dataclass(frozen=True, slots=True)
class PoolRegime:
    """Whether a pool has endpoints to wait for, and since when; monotonic seconds."""

    empty: bool = True
    since: float = -math.inf


def expires_at(request: QueuedRequest, regime: PoolRegime) -> float:
    """When a request's wait is over; infinite when it has no limit.

    A pool without endpoints has a limit of its own. The limit starts anew when the pool becomes
    empty or stops being so, but the whole wait is never longer than the longer of the two.
    """
    limit_s = request.no_endpoint_ttl_s if regime.empty else request.ttl_s
    longest_s = max(request.ttl_s, request.no_endpoint_ttl_s)
    starts_at = max(request.arrived_at, regime.since)
    return min(starts_at + limit_s, request.arrived_at + longest_s)


def arrival(*, now: float, wall: float, arrived_at_wall: float, ttl_s: float) -> float:
    """When a request came to its edge, in this replica's monotonic seconds.

    `arrived_at_wall` is by the edge's clock, 0 meaning not told. Clocks may differ: an arrival in
    the future is now, and none is longer ago than the request may wait.
    """
    if arrived_at_wall <= 0:
        return now
    return now - min(max(wall - arrived_at_wall, 0.0), ttl_s)
