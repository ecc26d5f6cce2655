"""Makes the connections of a channel: dials, greets, and says why it could not."""

import asyncio
import ssl
from collections.abc import Callable

from wire.address import Endpoint, UnixAddress
from wire.asyncio_io.connection_protocol import ConnectionProtocol
from wire.asyncio_io.tls_contexts import ALPN, client_context
from wire.http2.client_connection import ClientConnection
from wire.http2.limits import Limits
from wire.status import RpcError, RpcStatus
from wire.tls import ClientTls


class ClientProtocol(ConnectionProtocol[ClientConnection]):
    """One connection to a server. `on_change`: it may have room, or be of no further use."""

    def __init__(self, limits: Limits, on_change: Callable[[], None]) -> None:
        super().__init__()
        self._limits, self._on_change = limits, on_change
        self.greeted: asyncio.Future[None] = self.loop.create_future()
        """Done when the server has sent its SETTINGS, or the connection has ended."""

    def make_connection(self, now: float) -> ClientConnection:
        return ClientConnection(self._limits, now=now, wake=self.wake, on_change=self._changed)

    def on_lost(self) -> None:
        self._changed()

    def _changed(self) -> None:
        connection = self.connection
        if not self.greeted.done() and (connection.has_settings or connection.closing):
            self.greeted.set_result(None)
        self._on_change()


class Dialler:
    """Dials any of a channel's endpoints."""

    def __init__(self, *, limits: Limits, tls: ClientTls | None, connect_timeout_s: float) -> None:
        self._limits, self._connect_timeout_s = limits, connect_timeout_s
        self._ssl: ssl.SSLContext | None = None if tls is None else client_context(tls)
        self._server_name = None if tls is None else tls.server_name
        self.scheme = "http" if tls is None else "https"

    def authority(self, endpoint: Endpoint) -> str:
        """What calls to the endpoint name as their `:authority`."""
        return self._server_name or endpoint.authority

    async def dial(self, endpoint: Endpoint, on_change: Callable[[], None]) -> ClientProtocol:
        """A greeted connection.

        Raises:
            RpcError: UNAVAILABLE, with the endpoint and the reason.
        """
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                protocol = await self._connect(endpoint, on_change)
            try:
                async with asyncio.timeout(self._limits.handshake_timeout_s):
                    await protocol.greeted
                if not protocol.connection.is_usable:
                    raise OSError(protocol.connection.close_reason or "closed by the server")
            except BaseException:
                protocol.abort()
                raise
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            reason = str(error) or "no connection in time"
            raise RpcError(RpcStatus.UNAVAILABLE, f"{endpoint}: {reason}") from error
        return protocol

    async def _connect(self, endpoint: Endpoint, on_change: Callable[[], None]) -> ClientProtocol:
        loop, address = asyncio.get_running_loop(), endpoint.address
        server_name = None if self._ssl is None else self._server_name or endpoint.server_name

        def make() -> ClientProtocol:
            return ClientProtocol(self._limits, on_change)

        transport: asyncio.BaseTransport
        if isinstance(address, UnixAddress):
            transport, protocol = await loop.create_unix_connection(
                make, address.path, ssl=self._ssl, server_hostname=server_name
            )
        else:
            transport, protocol = await loop.create_connection(
                make, address.host, address.port, ssl=self._ssl, server_hostname=server_name
            )
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != ALPN:
            protocol.abort()
            raise OSError("the server does not speak h2 (ALPN)")
        return protocol
