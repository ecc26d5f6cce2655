"""One engine behind one port: puts its parts together and serves them over HTTP."""

import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from pointsman_simulator.adapters.completion_api import CompletionApi
from pointsman_simulator.adapters.debug_api import DebugApi
from pointsman_simulator.adapters.engine_driver import EngineDriver
from pointsman_simulator.adapters.engine_metrics import EngineMetrics
from pointsman_simulator.adapters.kv_event_publisher import KvEventPublisher
from pointsman_simulator.adapters.served_models import ServedModels
from pointsman_simulator.adapters.vllm_errors import ApiError, from_http_exception, internal_error
from pointsman_simulator.core.engine import Engine
from pointsman_simulator.settings import SimulatorSettings

ENDPOINT_HEADER = "x-simulator-endpoint"
VLLM_VERSION = "0.32.0"

MAX_BODY_BYTES = 64 << 20
KEEP_ALIVE_S = 3600.0  # proxies keep idle connections; who closes first risks a failed request
BACKLOG = 1024
STOP_WITHIN_S = 0.01  # for each connection; 0 would be no limit

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def format_address(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ModelServer:
    """A server that looks like vLLM, at `settings.host` and `port`.

    It publishes KV events where it is given a port for them, and repeats them likewise.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        port: int,
        *,
        kv_events_port: int = 0,
        kv_replay_port: int = 0,
    ) -> None:
        self._settings, self._port = settings, port
        self._kv_ports = kv_events_port, kv_replay_port
        profile, created = settings.profile, time.time()
        self._metrics = EngineMetrics(settings.model, profile, created)
        topic = f"kv@{format_address(settings.host, port)}@{settings.model}"
        self._kv = KvEventPublisher(profile.block_size, topic) if kv_events_port else None
        self._driver = EngineDriver(
            Engine(
                profile, time_factor=settings.time_factor, record_kv_events=self._kv is not None
            ),
            self._metrics,
            time.monotonic,
            self._kv,
        )
        self._models = ServedModels(
            settings.model,
            settings.loras,
            max_model_len=profile.max_model_len,
            created=int(created),
        )
        self._debug = DebugApi(self._metrics)
        self._completions = CompletionApi(
            self._driver, self._models, profile, self._debug.faults, settings.seed
        )
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen, and return the address as `host:port`.

        Raises:
            OSError: the port is taken, or the host is not this machine's.
        """
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._outermost])
        application.add_routes(
            [
                *self._completions.routes(),
                *self._models.routes(),
                *self._debug.routes(),
                web.get("/metrics", self._show_metrics),
                web.get("/health", self._ok),
                web.get("/ping", self._ok),
                web.post("/ping", self._ok),
                web.get("/version", self._version),
            ]
        )
        application.on_response_prepare.append(self._add_headers)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=STOP_WITHIN_S,
        )
        if self._kv is not None:
            events, replay = (
                f"tcp://{format_address(self._settings.host, port)}" if port else ""
                for port in self._kv_ports
            )
            self._kv.start(events, replay)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.host, self._port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError:
            await self.stop()
            raise
        port = self._runner.addresses[0][1]
        return format_address(self._settings.host, port)

    async def stop(self) -> None:
        """Close at once, whatever is under way."""
        self._driver.close()
        if self._kv is not None:
            self._kv.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _outermost(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._debug.record(request, await request.read())
            return await handler(request)
        except ApiError as error:
            return error.response()
        except web.HTTPException as exception:
            return from_http_exception(exception).response()

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "uvicorn"
        if self._settings.endpoint_header and request.transport is not None:
            host, port = request.transport.get_extra_info("sockname")[:2]
            response.headers[ENDPOINT_HEADER] = format_address(host, port)

    async def _show_metrics(self, request: web.Request) -> web.Response:
        faults = self._debug.faults
        while faults.metrics == "hang":
            await faults.hang()
        if faults.metrics == "error":
            raise internal_error()
        text = self._metrics.render(self._driver.stats(), time.time())
        if faults.metrics == "garbage":
            text = text[::-1]
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=text.encode(), headers=headers)

    async def _ok(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, request: web.Request) -> web.Response:
        body = msgspec.json.encode({"version": VLLM_VERSION})
        return web.Response(body=body, content_type="application/json")
