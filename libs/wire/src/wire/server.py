"""The serving end: handlers by path, on the engine of choice."""

import dataclasses
from collections.abc import Callable

from wire.asyncio_io.server import WireServer
from wire.grpcio_engine.server import GrpcioServer
from wire.handlers import BidiHandler, CallbackFactory, ContextUnaryHandler, UnaryHandler
from wire.http2.limits import Limits
from wire.tls import ServerTls
from wire.transport import DEFAULT_TRANSPORT, Transport, check_transport


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
        max_concurrent_streams: int | None = None,
        tls: ServerTls | None = None,
        on_error: Callable[[str, Exception], None] | None = None,
        transport: Transport = DEFAULT_TRANSPORT,
        limits: Limits | None = None,
    ) -> None:
        """`limits` are of the wire engine; `max_concurrent_streams` goes before theirs.

        Raises:
            ValueError: there is no such transport.
        """
        check_transport(transport)
        limits = limits or Limits()
        if max_concurrent_streams is not None:
            limits = dataclasses.replace(limits, max_concurrent_streams=max_concurrent_streams)
        self._engine: WireServer | GrpcioServer
        if transport == "wire":
            self._engine = WireServer(
                max_message_bytes=max_message_bytes, limits=limits, tls=tls, on_error=on_error
            )
        else:
            self._engine = GrpcioServer(
                max_message_bytes=max_message_bytes,
                max_concurrent_streams=limits.max_concurrent_streams,
                tls=tls,
                on_error=on_error,
            )

    def unary(self, path: str, handler: UnaryHandler) -> None:
        self._engine.unary(path, handler)

    def unary_with_context(self, path: str, handler: ContextUnaryHandler) -> None:
        """The same for a handler that takes the metadata and deadline of its calls as well."""
        self._engine.unary_with_context(path, handler)

    def bidi(self, path: str, handler: BidiHandler) -> None:
        self._engine.bidi(path, handler)

    def bidi_callbacks(self, path: str, factory: CallbackFactory) -> None:
        """Serve bidirectional calls by callbacks: `factory` makes one object a call."""
        self._engine.bidi_callbacks(path, factory)

    async def listen(self, *addresses: str) -> list[str]:
        """Bind and serve; returns the addresses with port 0 replaced by the port taken.

        Raises:
            OSError: an address is taken or may not be bound.
        """
        return await self._engine.listen(*addresses)

    async def drain(self, grace_s: float) -> None:
        """Refuse new calls, wait up to `grace_s` seconds for the open ones, then cancel them."""
        await self._engine.drain(grace_s)
