"""The few ways to leave the flow controller, and what a client is told of each.

Texts, codes and reasons are upstream's where it has the outcome (llm-d-router,
pkg/epp/requestcontrol/admission.go); a shed or displaced request, which upstream does not give a
reason, has one here, and so has a limit that upstream does not know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pointsman_common.error_mapping import (
    EVICTED_PRIORITY,
    REJECTED_CONTEXT_CANCELLED,
    REJECTED_NO_ENDPOINTS,
    REJECTED_SATURATED,
    REJECTED_SHUTTING_DOWN,
    REJECTED_TENANT_LIMIT,
    REJECTED_TTL_EXPIRED,
)


class QueueOutcome(Enum):
    """The value is the metric label `outcome`: never reworded."""

    DISPATCHED = "Dispatched"
    REJECTED_CAPACITY = "RejectedCapacity"
    REJECTED_NO_ENDPOINTS = "RejectedNoEndpoints"
    REJECTED_SATURATED = "RejectedSaturated"
    REJECTED_LIMIT = "RejectedLimit"
    EVICTED_TTL = "EvictedTTL"
    EVICTED_NO_ENDPOINTS = "EvictedNoEndpoints"
    EVICTED_CONTEXT_CANCELLED = "EvictedContextCancelled"
    EVICTED_PRIORITY = "EvictedPriority"
    EVICTED_OTHER = "EvictedOther"


@dataclass(frozen=True, slots=True)
class Refusal:
    """How an outcome other than dispatch is told; see Rejection in layer.proto."""

    code: str
    message: str
    reason: str


REFUSALS: Mapping[QueueOutcome, Refusal] = {
    QueueOutcome.REJECTED_CAPACITY: Refusal(
        "ResourceExhausted", "request rejected pre-queue: queue at capacity", REJECTED_SATURATED
    ),
    QueueOutcome.REJECTED_NO_ENDPOINTS: Refusal(
        "ServiceUnavailable",
        "no endpoints available: request rejected pre-queue: no endpoints available",
        REJECTED_NO_ENDPOINTS,
    ),
    QueueOutcome.REJECTED_SATURATED: Refusal(
        "ResourceExhausted", "system saturated, sheddable request dropped", REJECTED_SATURATED
    ),
    QueueOutcome.REJECTED_LIMIT: Refusal(
        "ResourceExhausted",
        "request rejected pre-queue: the tenant's limit is used up",
        REJECTED_TENANT_LIMIT,
    ),
    QueueOutcome.EVICTED_TTL: Refusal(
        "ResourceExhausted",
        "request timed out in queue: request evicted from queue: request TTL expired",
        REJECTED_TTL_EXPIRED,
    ),
    QueueOutcome.EVICTED_NO_ENDPOINTS: Refusal(
        "ServiceUnavailable",
        "request timed out in queue and no endpoints are available: "
        "request evicted from queue: request TTL expired",
        REJECTED_NO_ENDPOINTS,
    ),
    QueueOutcome.EVICTED_CONTEXT_CANCELLED: Refusal(
        "ServiceUnavailable",
        "client disconnected: request evicted from queue: context cancelled",
        REJECTED_CONTEXT_CANCELLED,
    ),
    QueueOutcome.EVICTED_PRIORITY: Refusal(
        "ResourceExhausted",
        "request evicted from queue: displaced by a request of higher priority",
        EVICTED_PRIORITY,
    ),
    QueueOutcome.EVICTED_OTHER: Refusal(
        "ServiceUnavailable",
        "flow controller shutting down: request evicted from queue",
        REJECTED_SHUTTING_DOWN,
    ),
}


@dataclass(frozen=True, slots=True)
class QueueExit:
    """How one request left."""

    outcome: QueueOutcome
    queued_s: float = 0.0
    """Seconds spent waiting in this replica."""
    unguarded: bool = False
    """Let through without a decision: flow control is off."""
    queue_position: int = 0
    """At least so many were to go before it, itself included; 0: it was not queued."""
    estimated_wait_s: float | None = None
    """Until it would have gone, or would go if it came again now; `None`: not known."""

    def retry_after_s(self) -> int:
        """When to come again, in whole seconds: the estimated wait, kept within 1 and 60."""
        if self.estimated_wait_s is None:
            return _SOONEST_RETRY_S
        return int(min(max(self.estimated_wait_s + 0.999, _SOONEST_RETRY_S), _LATEST_RETRY_S))


AT_ONCE = QueueExit(QueueOutcome.DISPATCHED)
"""How most leave."""

_SOONEST_RETRY_S, _LATEST_RETRY_S = 1, 60
