"""Errors and refusals in the words of HTTP and gRPC; the only place where they meet."""

from collections.abc import Mapping

from pointsman_common.contracts.layer_pb2 import Rejection
from pointsman_common.errors import (
    BusUnavailableError,
    LayerFailedError,
    LayerUnavailableError,
    PointsmanError,
    RequestError,
)
from wire import RpcStatus

HTTP_STATUS: Mapping[str, int] = {
    "BadRequest": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "PreconditionFailed": 412,
    "PayloadTooLarge": 413,
    "ResourceExhausted": 429,
    "Internal": 500,
    "ServiceUnavailable": 503,
}
"""HTTP status of each code of a Rejection."""

# Values of the dropped-reason header, as upstream words them.
REJECTED_SATURATED = "rejected-saturated"
REJECTED_NO_ENDPOINTS = "rejected-no-endpoints"
REJECTED_TTL_EXPIRED = "rejected-ttl-expired"
REJECTED_CONTEXT_CANCELLED = "rejected-context-cancelled"
REJECTED_SHUTTING_DOWN = "rejected-shutting-down"
EVICTED_PRIORITY = "evicted-priority"
EVICTED = "evicted"

REJECTED_TENANT_LIMIT = "rejected-tenant-limit"
"""Not upstream's: a tenant has used up what it may use in a window of time."""

RPC_STATUS: Mapping[type[PointsmanError], RpcStatus] = {
    BusUnavailableError: RpcStatus.UNAVAILABLE,
    LayerUnavailableError: RpcStatus.UNAVAILABLE,
    LayerFailedError: RpcStatus.INTERNAL,
    RequestError: RpcStatus.INVALID_ARGUMENT,
}


def rejection(
    code: str, message: str, *, reason: str = "", retry_after_s: int = 0, param: str = ""
) -> Rejection:
    """A refusal by its code; see layer.proto for the fields."""
    return Rejection(
        http_status=HTTP_STATUS[code],
        code=code,
        message=message,
        reason=reason,
        retry_after_s=retry_after_s,
        param=param,
    )


def rejection_of(error: PointsmanError) -> Rejection:
    """The refusal that a failure becomes for the client."""
    if isinstance(error, RequestError):
        return rejection(error.code, error.message, param=error.param)
    if isinstance(error, LayerUnavailableError | BusUnavailableError):
        return rejection("ServiceUnavailable", str(error))
    return rejection("Internal", str(error))


def rpc_status_of(error: PointsmanError) -> RpcStatus:
    """The gRPC status that a failure becomes between services."""
    for kind, status in RPC_STATUS.items():
        if isinstance(error, kind):
            return status
    return RpcStatus.INTERNAL
