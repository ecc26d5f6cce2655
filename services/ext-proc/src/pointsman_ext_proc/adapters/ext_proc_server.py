"""The listeners of the edge: ext_proc, the access log and health; and health alone for probes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from pointsman_common.clock import Clock
from pointsman_common.errors import SettingsError
from pointsman_common.rpc_address import RpcTransport, checked_address, listen_addresses
from pointsman_common.structured_log import get_logger
from pointsman_ext_proc.adapters.access_log_server import AccessLogServer
from pointsman_ext_proc.adapters.envoy_messages import PROCESS, STREAM_ACCESS_LOGS
from pointsman_ext_proc.adapters.exchange_stream import EdgeParts, ExchangeStream
from pointsman_ext_proc.adapters.health_service import HealthService
from wire import Server, ServerTls

log = get_logger("ext-proc-server")

MESSAGE_ROOM_BYTES = 4 << 20
"""What a message may hold beside a body of the greatest length."""


class ExtProcServer:
    """A part of a service. On draining it says not ready, goes on for `drain_delay_s` so that
    gateways notice, refuses new streams, and lets the open ones end."""

    def __init__(
        self,
        addresses: str,
        health_address: str,
        parts: EdgeParts,
        access_log: AccessLogServer,
        health: HealthService,
        *,
        clock: Clock,
        drain_delay_s: float,
        tls: ServerTls | None = None,
        transport: RpcTransport = "wire",
        on_streams: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Raises SettingsError, naming the setting, when an address is none."""
        self._addresses = listen_addresses(addresses)
        self._health_address = checked_address(health_address, key="health_address")
        self._parts, self._access_log, self._health = parts, access_log, health
        self._clock, self._drain_delay_s, self._on_streams = clock, drain_delay_s, on_streams
        self._streams = 0
        self._idle = asyncio.Event()
        self._idle.set()
        max_message = parts.rules.max_body_bytes + MESSAGE_ROOM_BYTES
        self._server = Server(
            max_message_bytes=max_message, tls=tls, on_error=_log_failure, transport=transport
        )
        self._server.bidi_callbacks(PROCESS, self._opened)
        self._server.bidi(STREAM_ACCESS_LOGS, access_log.serve)
        self._probes = Server(on_error=_log_failure, transport=transport)
        health.serve_on(self._server)
        health.serve_on(self._probes)
        self.bound: list[str] = []
        """Addresses of ext_proc once `run` has started; port 0 is replaced by the one taken."""
        self.health_bound: list[str] = []

    async def run(self) -> None:
        """Raises OSError when an address is taken."""
        self.bound = await self._server.listen(*self._addresses)
        self.health_bound = await self._probes.listen(self._health_address)
        log.info("serving", ext_proc=self.bound, health=self.health_bound)
        try:
            await asyncio.Event().wait()
        finally:
            self._access_log.end()
            await self._server.drain(0)
            await self._probes.drain(0)

    async def drain(self, grace_s: float) -> None:
        self._health.draining = True
        await self._clock.sleep(min(self._drain_delay_s, grace_s))
        left_s = max(0.0, grace_s - self._drain_delay_s)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._server.drain(left_s))
            await self._idle.wait()
            # Last: it tells of the ends of the streams that were just waited for.
            self._access_log.end()

    def _opened(self) -> ExchangeStream:
        self._streams += 1
        self._idle.clear()
        self._on_streams(self._streams)
        return ExchangeStream(self._parts, self._closed)

    def _closed(self) -> None:
        self._streams -= 1
        self._on_streams(self._streams)
        if not self._streams:
            self._idle.set()


def read_tls(certificate: str, private_key: str, client_ca: str) -> ServerTls | None:
    """TLS from PEM files; `None` when no certificate is named.

    Raises:
        SettingsError: a file is missing, or the key without the certificate.
    """
    if not certificate:
        if private_key or client_ca:
            raise SettingsError("tls_certificate_path", "is needed beside the other TLS settings")
        return None
    if not private_key:
        raise SettingsError("tls_private_key_path", "is needed beside the certificate")
    return ServerTls(
        _read("tls_certificate_path", certificate),
        _read("tls_private_key_path", private_key),
        _read("tls_client_ca_path", client_ca) if client_ca else None,
    )


def _read(key: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(key, f"{path} cannot be read: {error.strerror}") from error


def _log_failure(path: str, error: Exception) -> None:
    log.error("call-failed", path=path, exc_info=error)
