"""What the client is told when no endpoint was picked. Words and codes are llm-d-router's."""

from collections.abc import Mapping

from pointsman_common.contracts.layer_pb2 import Rejection
from pointsman_common.error_mapping import REJECTED_NO_ENDPOINTS, REJECTED_SATURATED, rejection
from pointsman_scheduler.core.scheduler import Refusal

_REJECTIONS: Mapping[Refusal, Rejection] = {
    Refusal.NO_ENDPOINTS: rejection(
        "ServiceUnavailable",
        "failed to find endpoint candidates for serving the request",
        reason=REJECTED_NO_ENDPOINTS,
    ),
    Refusal.NOT_CACHED: rejection(
        "PreconditionFailed", "no decode worker has the requested KV cache"
    ),
    Refusal.FILTERED: rejection(
        "ResourceExhausted",
        "no endpoints available for the given request",
        reason=REJECTED_SATURATED,
    ),
    Refusal.NO_TARGET: rejection(
        "ResourceExhausted",
        "failed to find target endpoint: no profile gave one",
        reason=REJECTED_SATURATED,
    ),
}


def rejection_for(refusal: Refusal) -> Rejection:
    return _REJECTIONS[refusal]
