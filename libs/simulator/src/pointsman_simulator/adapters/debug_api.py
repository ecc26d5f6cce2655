"""What tests see and steer: requests received, faults to inject, metrics to report.

GET, DELETE /debug/requests   the last 1000 requests, oldest first (`?last=N`); forget them
GET, POST   /debug/faults     {"metrics": "ok|hang|garbage|error",
                               "completions": "ok|error500|hang|disconnect"}, either or both
GET, POST   /debug/metrics    values to report instead of the engine's; null clears
"""

import asyncio
import hashlib
from collections import deque
from typing import Literal

import msgspec
from aiohttp import web

from pointsman_simulator.adapters.engine_metrics import EngineMetrics, MetricsOverride
from pointsman_simulator.adapters.json_body import decode_body
from pointsman_simulator.adapters.vllm_errors import bad_request

MAX_REQUESTS_KEPT = 1000
UNRECORDED = ("/metrics", "/health", "/ping", "/version", "/debug/")

RawHeaders = tuple[tuple[bytes, bytes], ...]
MetricsFault = Literal["ok", "hang", "garbage", "error"]
CompletionsFault = Literal["ok", "error500", "hang", "disconnect"]


class FaultsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong on purpose; in a change, null leaves as it is."""

    metrics: MetricsFault | None = None
    completions: CompletionsFault | None = None


_faults_decoder = msgspec.json.Decoder(FaultsBody)
_override_decoder = msgspec.json.Decoder(MetricsOverride | None)


class Faults:
    """The faults in force, and a way to wait until they change."""

    def __init__(self) -> None:
        self.metrics: MetricsFault = "ok"
        self.completions: CompletionsFault = "ok"
        self._changed = asyncio.Event()

    def change(self, body: FaultsBody) -> None:
        """Put other faults in force and release all that hangs."""
        self.metrics = body.metrics or self.metrics
        self.completions = body.completions or self.completions
        self._changed.set()
        self._changed = asyncio.Event()

    def shown(self) -> FaultsBody:
        """Return the faults in force."""
        return FaultsBody(metrics=self.metrics, completions=self.completions)

    async def hang(self) -> None:
        """Wait for the next change, or until the client goes and cancels the handler."""
        await self._changed.wait()


class DebugApi:
    """The handlers under /debug of one server, and what they keep."""

    def __init__(self, metrics: EngineMetrics) -> None:
        self.faults = Faults()
        self._metrics = metrics
        self._received: deque[tuple[str, str, RawHeaders, int, str]] = deque(
            maxlen=MAX_REQUESTS_KEPT
        )

    def routes(self) -> list[web.RouteDef]:
        """Return the paths served."""
        return [
            web.get("/debug/requests", self.show_requests),
            web.delete("/debug/requests", self.forget_requests),
            web.get("/debug/faults", self.show_faults),
            web.post("/debug/faults", self.change_faults),
            web.get("/debug/metrics", self.show_override),
            web.post("/debug/metrics", self.change_override),
        ]

    def record(self, request: web.Request, body: bytes) -> None:
        """Keep what a request looked like when it arrived, unless it is a probe."""
        if not request.path.startswith(UNRECORDED):
            digest = hashlib.sha256(body).hexdigest()
            received = (request.method, request.raw_path, request.raw_headers, len(body), digest)
            self._received.append(received)

    async def show_requests(self, request: web.Request) -> web.Response:
        """List the requests received, oldest first."""
        last = request.query.get("last", str(MAX_REQUESTS_KEPT))
        if not last.isdecimal():
            raise bad_request(f"last must be a number, got {last}.", "last")
        kept = list(self._received)[-int(last) :] if int(last) else []
        shown = [
            {
                "method": method,
                "path": path,
                "headers": [[_text(name), _text(value)] for name, value in headers],
                "body_bytes": size,
                "body_sha256": digest,
            }
            for method, path, headers, size, digest in kept
        ]
        return _json({"requests": shown})

    async def forget_requests(self, request: web.Request) -> web.Response:
        """Forget the requests received."""
        self._received.clear()
        return _json({"requests": []})

    async def show_faults(self, request: web.Request) -> web.Response:
        """Tell the faults in force."""
        return _json(self.faults.shown())

    async def change_faults(self, request: web.Request) -> web.Response:
        """Put other faults in force."""
        self.faults.change(decode_body(_faults_decoder, await request.read()))
        return _json(self.faults.shown())

    async def show_override(self, request: web.Request) -> web.Response:
        """Tell the metrics reported instead of the engine's."""
        return _json(self._metrics.override)

    async def change_override(self, request: web.Request) -> web.Response:
        """Replace the metrics reported; what the body leaves out is the engine's again."""
        override = decode_body(_override_decoder, await request.read())
        self._metrics.override = override or MetricsOverride()
        return _json(self._metrics.override)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
