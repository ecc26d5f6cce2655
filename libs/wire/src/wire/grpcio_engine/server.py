"""The serving end of the grpcio engine: unary and bidirectional handlers by path."""

import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio

from wire.address import grpcio_target
from wire.grpcio_engine.callbacks import serve_callbacks
from wire.handlers import BidiHandler, BidiStream, CallbackFactory, UnaryHandler
from wire.status import RpcError, RpcStatus
from wire.tls import ServerTls

_STATUS = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioBidiStream:
    """See `wire.BidiStream`."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.metadata: Mapping[str, str] = {
            key: value for key, value in context.invocation_metadata() if isinstance(value, str)
        }

    async def receive(self) -> bytes | None:
        message = await self._context.read()
        return message if isinstance(message, bytes) else None

    async def send(self, message: bytes) -> None:
        await self._context.write(message)

    async def send_many(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            await self._context.write(message)


class GrpcioServer:
    """See `wire.Server`."""

    def __init__(
        self,
        *,
        max_message_bytes: int,
        max_concurrent_streams: int,
        tls: ServerTls | None,
        on_error: Callable[[str, Exception], None] | None,
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

    def bidi_callbacks(self, path: str, factory: CallbackFactory) -> None:
        async def handle(stream: BidiStream) -> None:
            await serve_callbacks(stream, factory())

        self._bidi[path] = handle

    async def listen(self, *addresses: str) -> list[str]:
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
                await handler(GrpcioBidiStream(context))
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
