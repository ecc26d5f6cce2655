"""Health, readiness, metrics and settings of a service over HTTP (FastAPI)."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator, Sequence
from typing import Any

import msgspec
import uvicorn
from fastapi import APIRouter, FastAPI, Response
from google.protobuf import json_format
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.errors import SettingsError
from pointsman_common.settings_loader import shown_settings
from pointsman_common.structured_log import get_logger

log = get_logger("admin-api")


class AdminApi:
    """A part of a service. `GET /healthz /readyz /metrics /settings /describe`, and what `routers`
    add. Not ready from the moment that the service drains."""

    def __init__(
        self,
        address: str,
        *,
        settings: msgspec.Struct,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        describe: Callable[[], DescribeResponse],
        routers: Sequence[APIRouter] = (),
    ) -> None:
        self._host, self._port = _host_and_port(address)
        self._ready, self._draining = ready, False
        self.bound = ""
        """`host:port`, once `run` has started."""
        self.app = FastAPI(title=f"Pointsman {describe().layer}", docs_url="/docs", redoc_url=None)

        async def healthz() -> dict[str, str]:
            return {"status": "alive"}

        async def readyz(response: Response) -> dict[str, str]:
            if self._draining or not self._ready():
                response.status_code = 503
                return {"status": "draining" if self._draining else "not ready"}
            return {"status": "ready"}

        async def metrics() -> Response:
            return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

        async def settings_in_force() -> dict[str, Any]:
            return shown_settings(settings)

        async def description() -> dict[str, Any]:
            return json_format.MessageToDict(describe(), preserving_proto_field_name=True)

        self.app.get("/healthz")(healthz)
        self.app.get("/readyz")(readyz)
        self.app.get("/metrics")(metrics)
        self.app.get("/settings")(settings_in_force)
        self.app.get("/describe")(description)
        for router in routers:
            self.app.include_router(router)

    async def run(self) -> None:
        """Raises OSError, naming the address, when it is taken."""
        with contextlib.closing(_listen(self._host, self._port)) as listener:
            self.bound = f"{self._host}:{listener.getsockname()[1]}"
            config = uvicorn.Config(
                self.app, log_level="warning", access_log=False, lifespan="off", loop="none"
            )
            server = _Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                await asyncio.shield(serving)
            finally:
                # Its sockets are closed only when it may end by itself.
                server.should_exit = server.force_exit = True
                await asyncio.wait([serving])

    async def drain(self, grace_s: float) -> None:
        """Only says not ready; metrics stay readable to the end."""
        del grace_s
        self._draining = True
        await asyncio.sleep(0)  # noqa: TID251  (a turn of the loop, no time)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # signals belong to lifecycle.py


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise SettingsError("admin_address", f"{address!r} is not host:port")
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
