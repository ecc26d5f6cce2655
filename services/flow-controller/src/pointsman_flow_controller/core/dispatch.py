"""Which band, flow and request go next, and whether it may go now.

Bands are strictly ordered: while the highest band with work is held back, so are all below it.
"""

from dataclasses import dataclass

from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.flow_registry import FlowRegistry
from pointsman_flow_controller.core.queue_exit import (
    QueueExitDecision,
    decide_queue_exit,
    expires_at,
)


@dataclass(frozen=True, slots=True)
class NextExit:
    request: QueuedRequest
    decision: QueueExitDecision


def next_exit(registry: FlowRegistry, *, saturation: float, now: float) -> NextExit | None:
    """The request whose turn it is, and what becomes of it; `None` when it has to wait."""
    band = registry.highest()
    head = band.head() if band is not None else None
    if band is None or head is None:
        return None
    decision = decide_queue_exit(
        now=now,
        expires_at=expires_at(head, registry.regime),
        saturation=saturation,
        ceiling=registry.policy.usage_limit.ceiling(band.priority, registry.priorities),
    )
    return None if decision is QueueExitDecision.WAIT else NextExit(head, decision)
