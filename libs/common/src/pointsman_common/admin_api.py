"""Health, readiness, metrics and settings of a service over HTTP (FastAPI)."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, Response
from google.protobuf import json_format
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.http_part import HttpPart
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
        self._ready, self._draining = ready, False
        self.app = FastAPI(title=f"Pointsman {describe().layer}", docs_url="/docs", redoc_url=None)
        self._part = HttpPart(address, self.app, key="admin_address")

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

    @property
    def bound(self) -> str:
        """`host:port`, once `run` has started."""
        return self._part.bound

    async def run(self) -> None:
        """Raises OSError, naming the address, when it is taken."""
        await self._part.run()

    async def drain(self, grace_s: float) -> None:
        """Only says not ready; metrics stay readable to the end."""
        del grace_s
        self._draining = True
        await asyncio.sleep(0)  # noqa: TID251  (a turn of the loop, no time)
