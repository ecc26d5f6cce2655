"""grpc.health.v1 by upstream's service names, and Layer/Describe: on either listener."""

from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health_pb2

from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.rpc_server import DESCRIBE, HEALTH_CHECK
from pointsman_ext_proc.adapters.envoy_messages import SERVICE_NAME
from wire import Server

_health: Any = health_pb2  # its stubs do not know List

HEALTH_LIST = "/grpc.health.v1.Health/List"
LIVENESS = "liveness"
READINESS = ("", "readiness", "inference-extension", SERVICE_NAME)


class HealthService:
    """`liveness` is always SERVING; the others while the edge is ready and does not drain."""

    def __init__(
        self, *, ready: Callable[[], bool], describe: Callable[[], DescribeResponse]
    ) -> None:
        self._ready, self._describe = ready, describe
        self.draining = False

    def serve_on(self, server: Server) -> None:
        server.unary(HEALTH_CHECK, self._check)
        server.unary(HEALTH_LIST, self._list)
        server.unary(DESCRIBE, lambda _: self._describe().SerializeToString())

    def _check(self, message: bytes) -> bytes:
        asked = health_pb2.HealthCheckRequest.FromString(message).service
        reply: bytes = self._status(asked).SerializeToString()
        return reply

    def _list(self, _: bytes) -> bytes:
        statuses = {name: self._status(name) for name in (LIVENESS, *READINESS)}
        reply: bytes = _health.HealthListResponse(statuses=statuses).SerializeToString()
        return reply

    def _status(self, service: str) -> health_pb2.HealthCheckResponse:
        kinds = health_pb2.HealthCheckResponse.ServingStatus
        if service == LIVENESS:
            status = kinds.SERVING
        elif service not in READINESS:
            status = kinds.SERVICE_UNKNOWN
        else:
            is_ready = self._ready() and not self.draining
            status = kinds.SERVING if is_ready else kinds.NOT_SERVING
        return health_pb2.HealthCheckResponse(status=status)
