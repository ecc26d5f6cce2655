"""The serving end of the wire engine: listeners, connections, routes, and the drain."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

from wire.address import TcpAddress, UnixAddress, parse_address
from wire.asyncio_io.connection_protocol import ConnectionProtocol
from wire.asyncio_io.handler_streams import (
    CallbackHandlerStream,
    ContextUnaryStream,
    CoroutineStream,
    HandlerContext,
    HandlerStream,
    RefusedStream,
    UnaryStream,
)
from wire.asyncio_io.tls_contexts import server_context
from wire.grpc.heads import RequestHead, request_head_of
from wire.handlers import BidiHandler, CallbackFactory, ContextUnaryHandler, UnaryHandler
from wire.http2.errors import ErrorCode
from wire.http2.hpack_cache import HeaderBlock
from wire.http2.limits import Limits
from wire.http2.server_connection import ServerConnection
from wire.status import RpcStatus
from wire.tls import ServerTls

_LAST_WORDS_S = 1.0
"""What handlers that were cancelled, and the closing of sockets, may take of the drain."""

OpenStream = Callable[[ServerConnection, int, RequestHead, HandlerContext], HandlerStream]


class WireServer:
    """See `wire.Server`."""

    def __init__(
        self,
        *,
        max_message_bytes: int,
        limits: Limits,
        tls: ServerTls | None,
        on_error: Callable[[str, Exception], None] | None,
    ) -> None:
        self.limits = limits
        self._max_message_bytes, self._on_error = max_message_bytes, on_error
        self._tls: ssl.SSLContext | None = None if tls is None else server_context(tls)
        self._tls_timeout_s = None if tls is None else limits.handshake_timeout_s
        self._routes: dict[str, OpenStream] = {}
        self._context: HandlerContext | None = None
        self._listeners: list[asyncio.AbstractServer] = []
        self._sockets: list[tuple[Path, int | None]] = []
        self.connections: set[ServerProtocol] = set()

    def unary(self, path: str, handler: UnaryHandler) -> None:
        self._routes[path] = partial(UnaryStream, handler)

    def unary_with_context(self, path: str, handler: ContextUnaryHandler) -> None:
        self._routes[path] = partial(ContextUnaryStream, handler)

    def bidi(self, path: str, handler: BidiHandler) -> None:
        self._routes[path] = partial(CoroutineStream, handler)

    def bidi_callbacks(self, path: str, factory: CallbackFactory) -> None:
        self._routes[path] = partial(CallbackHandlerStream, factory)

    async def listen(self, *addresses: str) -> list[str]:
        if self._context is None:
            self._context = HandlerContext(
                max_message_bytes=self._max_message_bytes, on_error=self._on_error
            )
        bound: list[str] = []
        for address in addresses:
            parsed = parse_address(address)
            try:
                if isinstance(parsed, UnixAddress):
                    await self._listen_unix(parsed)
                    bound.append(address)
                else:
                    bound.append(str(await self._listen_tcp(parsed)))
            except OSError as error:
                raise OSError(f"cannot listen on {address}: {error}") from error
        return bound

    async def drain(self, grace_s: float) -> None:
        for listener in self._listeners:
            listener.close()
        connections = [*self.connections]
        for protocol in connections:
            protocol.connection.drain()
        if connections and grace_s > 0:
            await asyncio.wait([protocol.lost for protocol in connections], timeout=grace_s)
        for protocol in connections:
            for stream in [*protocol.connection.streams.values()]:
                if isinstance(stream, HandlerStream):
                    stream.abort(RpcStatus.UNAVAILABLE, "the server is stopping")
            protocol.connection.fail(ErrorCode.NO_ERROR, "the server is stopping")
            protocol.flush()
        leaving: set[asyncio.Future[None]] = {protocol.lost for protocol in connections}
        if self._context is not None:
            leaving |= self._context.tasks
        if leaving:
            await asyncio.wait(leaving, timeout=_LAST_WORDS_S)
        for protocol in connections:
            protocol.abort()
        self._remove_sockets()

    def accept(
        self, connection: ServerConnection, stream_id: int, block: HeaderBlock
    ) -> HandlerStream:
        """The owner of a new stream, by the path of its head.

        Raises:
            Http2StreamError: the head is malformed.
        """
        assert self._context is not None  # noqa: S101  (it listens, or nobody would call)
        head = request_head_of(block)
        open_stream = self._routes.get(head.path)
        if open_stream is None or head.refusal is not None or head.http_refusal is not None:
            return RefusedStream(connection, stream_id, head, self._context)
        return open_stream(connection, stream_id, head, self._context)

    async def _listen_unix(self, address: UnixAddress) -> None:
        loop, path = asyncio.get_running_loop(), Path(address.path)
        listener = await loop.create_unix_server(
            self._protocol,
            address.path,
            ssl=self._tls,
            ssl_handshake_timeout=self._tls_timeout_s,
        )
        self._listeners.append(listener)
        self._sockets.append((path, _inode(path)))

    async def _listen_tcp(self, address: TcpAddress) -> TcpAddress:
        loop = asyncio.get_running_loop()
        host, port = address.host, address.port
        if not port:
            # A name may stand for several addresses, each of which would take another port.
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            host = str(found[0][4][0])
        listener = await loop.create_server(
            self._protocol,
            host,
            port,
            ssl=self._tls,
            ssl_handshake_timeout=self._tls_timeout_s,
        )
        self._listeners.append(listener)
        return TcpAddress(address.host, port or listener.sockets[0].getsockname()[1])

    def _protocol(self) -> "ServerProtocol":
        return ServerProtocol(self)

    def _remove_sockets(self) -> None:
        """Leave no dead sockets behind, nor take away those of a successor."""
        for path, inode in self._sockets:
            if inode is not None and _inode(path) == inode:
                path.unlink()
        self._sockets.clear()


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


class ServerProtocol(ConnectionProtocol[ServerConnection]):
    """One client's connection."""

    def __init__(self, server: WireServer) -> None:
        super().__init__()
        self._server = server

    def make_connection(self, now: float) -> ServerConnection:
        self._server.connections.add(self)
        return ServerConnection(self._server.limits, accept=self._accept, now=now, wake=self.wake)

    def on_lost(self) -> None:
        self._server.connections.discard(self)

    def _accept(
        self, connection: ServerConnection, stream_id: int, block: HeaderBlock
    ) -> HandlerStream:
        stream = self._server.accept(connection, stream_id, block)
        if (timeout_s := stream.head.timeout_s) is not None:
            self.deadlines.add(connection.now + timeout_s, stream)
        return stream
