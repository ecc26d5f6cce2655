"""Serves an ASGI application on an address, with or without TLS, as a part of a service."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import uvicorn

from pointsman_common.errors import SettingsError


@dataclass(frozen=True, slots=True)
class HttpTls:
    """Files in PEM. With `client_ca`, clients must present a certificate signed by it."""

    certificate: str
    private_key: str
    client_ca: str = ""


class HttpPart:
    """`key` names the setting that the address is from."""

    def __init__(
        self, address: str, app: Any, *, key: str = "address", tls: HttpTls | None = None
    ) -> None:
        """Raises SettingsError, naming `key`, when the address is none."""
        self._host, self._port = _host_and_port(address, key)
        self._app, self._key, self._tls = app, key, tls
        self.bound = ""
        """`host:port`, once `run` has started."""

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            OSError: the address is taken; the message names it.
            SettingsError: the TLS files cannot be used.
        """
        with contextlib.closing(_listen(self._host, self._port)) as listener:
            config = uvicorn.Config(
                self._app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                loop="none",
                **self._tls_options(),
            )
            try:
                config.load()
            except (OSError, ssl.SSLError) as error:
                raise SettingsError(self._key, f"TLS files cannot be used: {error}") from error
            self.bound = f"{self._host}:{listener.getsockname()[1]}"
            server = _Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                await asyncio.shield(serving)
            finally:
                # Its sockets are closed only when it may end by itself.
                server.should_exit = server.force_exit = True
                await asyncio.wait([serving])

    def _tls_options(self) -> dict[str, Any]:
        if self._tls is None:
            return {}
        return {
            "ssl_certfile": self._tls.certificate,
            "ssl_keyfile": self._tls.private_key,
            "ssl_ca_certs": self._tls.client_ca or None,
            "ssl_cert_reqs": ssl.CERT_REQUIRED if self._tls.client_ca else ssl.CERT_NONE,
        }


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # signals belong to lifecycle.py


def _host_and_port(address: str, key: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise SettingsError(key, f"{address!r} is not host:port")
    return host or "0.0.0.0", int(port)  # noqa: S104  (`:9090` means all interfaces, as in Go)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener
