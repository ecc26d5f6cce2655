"""Pools, decisions and layers over HTTP, and the console that shows them live."""

from collections.abc import AsyncGenerator
from importlib import resources
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from pointsman_common.clock import Clock
from pointsman_datalayer.adapters.pool_history import PoolHistory
from pointsman_datalayer.adapters.redis_endpoint_store import RedisAwayError, RedisEndpointStore
from pointsman_datalayer.core.decision_log import DecisionLog
from pointsman_datalayer.core.live_state import (
    Json,
    LiveState,
    decision_detail,
    decision_summary,
)

Found = TypeVar("Found")

EVENT_S = 0.5
"""Between two events to a console."""

CONSOLE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def build_rest_api(
    state: LiveState,
    clock: Clock,
    decisions: DecisionLog,
    store: RedisEndpointStore | None,
    *,
    event_clients: int,
    history: PoolHistory | None = None,
) -> APIRouter:
    """The routes; AdminApi serves them."""
    router = APIRouter()
    events = EventStream(state, clock, max_clients=event_clients)
    page = resources.files("pointsman_datalayer").joinpath("console/index.html").read_text("utf-8")

    async def console() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": CONSOLE_POLICY})

    async def pools() -> Json:
        return {"pools": state.pools(clock.monotonic())}

    async def pool(namespace: str, name: str) -> Json:
        return _found(state.pool(f"{namespace}/{name}", clock.monotonic()), namespace, name)

    async def recent(
        namespace: str, name: str, limit: Annotated[int, Query(ge=1, le=1000)] = 50
    ) -> Json:
        found = decisions.recent(f"{namespace}/{name}", limit)
        return {"decisions": [decision_summary(decision) for decision in found]}

    async def decision(namespace: str, name: str, key: str) -> Json:
        found = decisions.find(f"{namespace}/{name}", key)
        if found is None and store is not None:
            try:
                found = await store.find(f"{namespace}/{name}", key)
            except RedisAwayError as error:
                why = f"no decision {key!r} in memory, and Redis is away"
                raise HTTPException(404, why) from error
        if found is None:
            raise HTTPException(404, f"no decision {key!r}")
        return decision_detail(decisions.completed(found))

    async def flow(namespace: str, name: str) -> Json:
        return _found(state.flow(f"{namespace}/{name}", clock.monotonic()), namespace, name)

    async def shadows(namespace: str, name: str) -> Json:
        return _found(state.shadows(f"{namespace}/{name}", clock.monotonic()), namespace, name)

    async def over_time(
        namespace: str,
        name: str,
        since_s: Annotated[float, Query(gt=0, le=30 * 86_400)] = 3600.0,
        limit: Annotated[int, Query(ge=1, le=20_000)] = 1000,
    ) -> Json:
        pool_name = f"{namespace}/{name}"
        _found(state.registry.pools().get(pool_name), namespace, name)
        if history is None:
            return {"pool": pool_name, "source": "memory", "points": []}
        since = clock.wall() - since_s
        points, source = await history.points(pool_name, since=since, limit=limit)
        return {"pool": pool_name, "source": source, "points": msgspec.to_builtins(points)}

    async def layers() -> Json:
        return {"layers": state.layers(clock.monotonic())}

    async def discovery() -> Json:
        return state.discovery()

    async def live() -> Response:
        if events.clients >= event_clients:
            raise HTTPException(503, f"{event_clients} consoles watch already")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events.lines(), media_type="text/event-stream", headers=headers)

    router.get("/", include_in_schema=False)(console)
    router.get("/v1/pools")(pools)
    router.get("/v1/pools/{namespace}/{name}")(pool)
    router.get("/v1/pools/{namespace}/{name}/decisions")(recent)
    router.get("/v1/pools/{namespace}/{name}/decisions/{key:path}")(decision)
    router.get("/v1/pools/{namespace}/{name}/flow")(flow)
    router.get("/v1/pools/{namespace}/{name}/shadows")(shadows)
    router.get("/v1/pools/{namespace}/{name}/history")(over_time)
    router.get("/v1/layers")(layers)
    router.get("/v1/discovery")(discovery)
    router.get("/v1/events", response_model=None)(live)
    return router


def _found(answer: Found | None, namespace: str, name: str) -> Found:
    if answer is None:
        raise HTTPException(404, f"no pool {namespace}/{name}")
    return answer


class EventStream:
    """The live state as server-sent events; computed once for all who watch."""

    def __init__(self, state: LiveState, clock: Clock, *, max_clients: int) -> None:
        self._state, self._clock, self._max_clients = state, clock, max_clients
        self._built_at, self._event = float("-inf"), ""
        self.clients = 0

    async def lines(self) -> AsyncGenerator[str]:
        if self.clients >= self._max_clients:
            return
        self.clients += 1
        try:
            while True:
                yield self._current()
                await self._clock.sleep(EVENT_S)
        finally:
            self.clients -= 1

    def _current(self) -> str:
        now = self._clock.monotonic()
        if now - self._built_at >= EVENT_S / 2:
            self._built_at = now
            compact: dict[str, Any] = self._state.compact(now)
            compact["at"] = self._clock.wall()
            self._event = f"data: {msgspec.json.encode(compact).decode()}\n\n"
        return self._event
