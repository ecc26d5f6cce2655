"""The serving end of the grpcio engine: unary and bidirectional handlers by path."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio

from wire.address import grpcio_listen_target
from wire.grpcio_engine.callbacks import serve_callbacks
from wire.grpcio_engine.errors import OUT_OF_LIFE, stopped
from wire.handlers import (
    BidiHandler,
    BidiStream,
    CallbackFactory,
    CallContext,
    ContextUnaryHandler,
    UnaryHandler,
)
from wire.status import RpcError, RpcStatus
from wire.tls import ServerTls

_STATUS = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioBidiStream:
    """See `wire.BidiStream`."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.metadata, self.binary_metadata = _metadata(context)

    async def receive(self) -> bytes | None:
        try:
            message = await self._context.read()
        except OUT_OF_LIFE as error:
            raise stopped(error) from error
        return message if isinstance(message, bytes) else None

    async def send(self, message: bytes) -> None:
        try:
            await self._context.write(message)
        except OUT_OF_LIFE as error:
            raise stopped(error) from error

    async def send_many(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            await self.send(message)


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
        self._unary: dict[str, Callable[[bytes, Any], bytes | Awaitable[bytes]]] = {}
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
        self._unary[path] = lambda message, _: handler(message)

    def unary_with_context(self, path: str, handler: ContextUnaryHandler) -> None:
        self._unary[path] = lambda message, context: handler(message, _call_context(context))

    def bidi(self, path: str, handler: BidiHandler) -> None:
        self._bidi[path] = handler

    def bidi_callbacks(self, path: str, factory: CallbackFactory) -> None:
        async def handle(stream: BidiStream) -> None:
            await serve_callbacks(stream, factory())

        self._bidi[path] = handle

    async def listen(self, *addresses: str) -> list[str]:
        bound: list[str] = []
        for address in addresses:
            target = grpcio_listen_target(address)
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

    def _serve_unary(
        self, path: str, handler: Callable[[bytes, Any], bytes | Awaitable[bytes]]
    ) -> Any:
        async def serve(message: bytes, context: Any) -> bytes:
            try:
                reply = handler(message, context)
                return await reply if inspect.isawaitable(reply) else reply
            except RpcError as error:
                await _abort(context, error)
            except Exception as error:
                await self._fail(path, error, context)
            raise AssertionError("abort does not return")

        return serve

    def _serve_bidi(self, path: str, handler: BidiHandler) -> Any:
        async def serve(_: AsyncIterator[bytes], context: Any) -> None:
            try:
                await handler(GrpcioBidiStream(context))
            except RpcError as error:
                await _abort(context, error)
            except Exception as error:
                await self._fail(path, error, context)

        return serve

    async def _fail(self, path: str, error: Exception, context: Any) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if self._on_error is not None:
            self._on_error(path, error)
        await _abort(context, RpcError(RpcStatus.UNKNOWN, type(error).__name__))


async def _abort(context: Any, error: RpcError) -> None:
    """Raises what ends a handler of grpcio."""
    try:
        await context.abort(_STATUS[error.status], error.message, tuple(error.trailers.items()))
    except OUT_OF_LIFE:
        raise asyncio.CancelledError from None  # the call has ended without waiting for us


def _metadata(context: Any) -> tuple[Mapping[str, str], Mapping[str, bytes]]:
    pairs = context.invocation_metadata() or ()
    return (
        {key: value for key, value in pairs if isinstance(value, str)},
        {key: value for key, value in pairs if isinstance(value, bytes)},
    )


def _call_context(context: Any) -> CallContext:
    text, binary = _metadata(context)
    return CallContext(metadata=text, binary_metadata=binary, timeout_s=context.time_remaining())


class _Routes(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio ships no types
    def __init__(self, route: Callable[[str], Any]) -> None:
        self._route = route

    def service(self, handler_call_details: Any) -> Any:
        return self._route(handler_call_details.method)
