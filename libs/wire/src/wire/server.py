"""The serving end: unary and bidirectional handlers by path."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from wire.address import grpcio_target
from wire.status import RpcError, RpcStatus
from wire.tls import ServerTls

UnaryHandler = Callable[[bytes], bytes | Awaitable[bytes]]
BidiHandler = Callable[["BidiStream"], Awaitable[None]]

_STATUS = {code.value[0]: code for code in grpc.StatusCode}


class BidiStream:
    """One bidirectional call, seen by its handler. The call ends when the handler returns."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.metadata: Mapping[str, str] = {
            key: value for key, value in context.invocation_metadata() if isinstance(value, str)
        }
        """What the client sent ahead of its messages, by lower-case key; binary values left out."""

    async def receive(self) -> bytes | None:
        """Return the next message, or `None` when the client has sent its last."""
        message = await self._context.read()
        return message if isinstance(message, bytes) else None

    async def send(self, message: bytes) -> None:
        """Send one message; waits while the client's flow-control window is full."""
        await self._context.write(message)


class Server:
    """Serves handlers on one or more addresses.

    A unary handler is a plain function or a coroutine function from bytes to bytes. An `RpcError`
    that a handler raises becomes the status of the call; anything else becomes UNKNOWN and goes to
    `on_error`. When the client cancels or goes away, the handler's coroutine is cancelled.
    """

    def __init__(
        self,
        *,
        max_message_bytes: int = 4 << 20,
        max_concurrent_streams: int = 4096,
        tls: ServerTls | None = None,
        on_error: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self._tls, self._on_error = tls, on_error
        self._unary: dict[str, UnaryHandler] = {}
        self._bidi: dict[str, BidiHandler] = {}
        options = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_concurrent_streams", max_concurrent_streams),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((_Routes(self._route),))

    def unary(self, path: str, handler: UnaryHandler) -> None:
        self._unary[path] = handler

    def bidi(self, path: str, handler: BidiHandler) -> None:
        self._bidi[path] = handler

    async def listen(self, *addresses: str) -> list[str]:
        """Bind and serve; returns the addresses with port 0 replaced by the port taken.

        Raises:
            OSError: an address is taken or may not be bound.
        """
        bound: list[str] = []
        for address in addresses:
            target = grpcio_target(address)
            try:
                port = self._bind(target)
            except RuntimeError as error:
                raise OSError(f"cannot listen on {address}: {error}") from error
            unix = address.startswith("unix://")
            bound.append(address if unix else f"{address.rpartition(':')[0]}:{port}")
        await self._server.start()
        return bound

    async def drain(self, grace_s: float) -> None:
        """Refuse new calls, wait up to `grace_s` seconds for the open ones, then cancel them."""
        await self._server.stop(grace_s)

    def _bind(self, target: str) -> int:
        if self._tls is None:
            return int(self._server.add_insecure_port(target))
        credentials = grpc.ssl_server_credentials(
            [(self._tls.private_key, self._tls.certificate)],
            root_certificates=self._tls.client_ca,
            require_client_auth=self._tls.client_ca is not None,
        )
        return int(self._server.add_secure_port(target, credentials))

    def _route(self, path: str) -> Any:
        if (unary := self._unary.get(path)) is not None:
            return grpc.unary_unary_rpc_method_handler(self._serve_unary(path, unary))
        if (bidi := self._bidi.get(path)) is not None:
            return grpc.stream_stream_rpc_method_handler(self._serve_bidi(path, bidi))
        return None

    def _serve_unary(self, path: str, handler: UnaryHandler) -> Any:
        async def serve(message: bytes, context: Any) -> bytes:
            try:
                reply = handler(message)
                return await reply if inspect.isawaitable(reply) else reply
            except RpcError as error:
                await context.abort(_STATUS[error.status], error.message)
            except Exception as error:
                await self._fail(path, error, context)
            raise AssertionError("abort does not return")

        return serve

    def _serve_bidi(self, path: str, handler: BidiHandler) -> Any:
        async def serve(_: AsyncIterator[bytes], context: Any) -> None:
            try:
                await handler(BidiStream(context))
            except RpcError as error:
                await context.abort(_STATUS[error.status], error.message)
            except Exception as error:
                await self._fail(path, error, context)

        return serve

    async def _fail(self, path: str, error: Exception, context: Any) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if self._on_error is not None:
            self._on_error(path, error)
        await context.abort(_STATUS[RpcStatus.UNKNOWN], type(error).__name__)


class _Routes(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio ships no types
    def __init__(self, route: Callable[[str], Any]) -> None:
        self._route = route

    def service(self, handler_call_details: Any) -> Any:
        return self._route(handler_call_details.method)
