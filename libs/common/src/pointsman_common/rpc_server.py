"""The serving end of a layer's hook: its method, `Layer/Describe` and `grpc.health.v1`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from grpc_health.v1 import health_pb2

from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.error_mapping import rpc_status_of
from pointsman_common.errors import PointsmanError
from pointsman_common.rpc_address import RpcTransport, listen_addresses
from pointsman_common.rpc_channel import MAX_MESSAGE_BYTES
from pointsman_common.structured_log import get_logger
from wire import CallbackStream, RpcError, Server, ServerTls

log = get_logger("rpc-server")

DESCRIBE = "/pointsman.layer.v1.Layer/Describe"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"

UnaryHandler = Callable[[bytes], bytes | Awaitable[bytes]]


class RpcServer:
    """A part of a service: serves `hooks` (by path) on one or more addresses until drained.

    `ready` says what health answers to every service name but `liveness`.
    """

    def __init__(
        self,
        addresses: str,
        hooks: Mapping[str, UnaryHandler],
        *,
        describe: Callable[[], DescribeResponse],
        ready: Callable[[], bool],
        streams: Mapping[str, Callable[[], CallbackStream]] | None = None,
        tls: ServerTls | None = None,
        transport: RpcTransport = "wire",
    ) -> None:
        """`streams`: what makes the object of each streaming call, by path.

        Raises:
            SettingsError: an address is none; names `listen_address`.
        """
        self._addresses = listen_addresses(addresses)
        self._ready, self._draining = ready, False
        self._server = Server(
            max_message_bytes=MAX_MESSAGE_BYTES,
            tls=tls,
            on_error=_log_failure,
            transport=transport,
        )
        for path, hook in hooks.items():
            self._server.unary(path, _with_statuses(hook))
        for path, factory in (streams or {}).items():
            self._server.bidi_callbacks(path, factory)
        self._server.unary(DESCRIBE, lambda _: describe().SerializeToString())
        self._server.unary(HEALTH_CHECK, self._check)
        self.bound: list[str] = []
        """The addresses served, once `run` has started: port 0 is replaced by the port taken."""

    async def run(self) -> None:
        """Raises OSError when an address is taken."""
        self.bound = await self._server.listen(*self._addresses)
        log.info("serving", addresses=self.bound)
        try:
            await asyncio.Event().wait()
        finally:
            await self._server.drain(0)

    async def drain(self, grace_s: float) -> None:
        """Answer health with NOT_SERVING, refuse new calls and let the open ones end."""
        self._draining = True
        await self._server.drain(grace_s)

    def _check(self, message: bytes) -> bytes:
        service = health_pb2.HealthCheckRequest.FromString(message).service
        alive = service == "liveness" or (self._ready() and not self._draining)
        kinds = health_pb2.HealthCheckResponse.ServingStatus
        status = kinds.SERVING if alive else kinds.NOT_SERVING
        reply: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
        return reply


def _with_statuses(hook: UnaryHandler) -> UnaryHandler:
    # A plain function stays one: it is answered without a task.
    def call(message: bytes) -> bytes | Awaitable[bytes]:
        try:
            reply = hook(message)
        except PointsmanError as error:
            raise _rpc_error(error) from error
        return reply if isinstance(reply, bytes) else awaited(reply)

    async def awaited(reply: Awaitable[bytes]) -> bytes:
        try:
            return await reply
        except PointsmanError as error:
            raise _rpc_error(error) from error

    return call


def _rpc_error(error: PointsmanError) -> RpcError:
    return RpcError(rpc_status_of(error), str(error))


def _log_failure(path: str, error: Exception) -> None:
    log.error("call-failed", path=path, exc_info=error)
