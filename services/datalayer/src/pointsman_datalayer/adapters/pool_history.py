"""Keeps the history of the digests: in memory, and as a capped stream of each pool in Redis.

Key: `pointsman:v1:<pool>:digests`, entries with one field `data`, a HistoryPoint as JSON. Of each
pool the replica that speaks for it writes. Nothing waits for Redis: while it is away points wait in
a bounded queue, from which the oldest are dropped.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import redis.asyncio as redis_client
from redis.exceptions import RedisError

from pointsman_common.clock import Clock
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.core.digest_history import DigestHistory, HistoryPoint, history_point
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.pool_digest import PoolDigests
from pointsman_datalayer.metrics import Metrics

log = get_logger("pool-history")

SAMPLE_S = 0.5
TIMEOUT_S = 1.0
QUEUE = 2000


class PoolHistory:
    """A part of a service. Without a `url` the history is only in memory."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        registry: EndpointRegistry,
        digests: PoolDigests,
        metrics: Metrics,
        *,
        in_flight: Callable[[str], int],
        speaks: Callable[[str], bool],
        interval_s: float,
        stored: int,
    ) -> None:
        self._redis: Any = (
            redis_client.Redis.from_url(
                url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
            )
            if url
            else None
        )
        self._clock, self._registry, self._digests = clock, registry, digests
        self._metrics, self._in_flight, self._speaks = metrics, in_flight, speaks
        self._stored = stored
        self.history = DigestHistory(interval_s=interval_s)
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._told_away = False

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sample())
                if self._redis is not None:
                    group.create_task(self._store())
        finally:
            if self._redis is not None:
                await self._redis.aclose()

    def sample(self) -> None:
        """Take note of every pool, now."""
        pools = self._registry.pools()
        self.history.keep_only(pools)
        for pool in pools:
            regime = self._digests.regime(pool)
            point = history_point(regime, self._in_flight(pool), self._clock.wall())
            kept = bool(regime.reason) and self.history.observe(pool, point)
            if kept and self._redis is not None and self._speaks(pool):
                self._waiting.append((pool, msgspec.json.encode(point)))
        while len(self._waiting) > QUEUE:
            self._waiting.popleft()
            self._metrics.redis_dropped.inc()

    async def points(
        self, pool: str, *, since: float, limit: int
    ) -> tuple[list[HistoryPoint], str]:
        """The latest points, oldest first, and whence: `redis`, or `memory` where it has none."""
        if self._redis is not None:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    entries = await self._redis.xrevrange(
                        _key(pool), min=str(max(0, int(since * 1000))), count=limit
                    )
                points = [_decoded(fields) for _, fields in reversed(entries)]
                known = [point for point in points if point is not None and point.at >= since]
                if known:
                    return known, "redis"
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("redis-away", error=str(error))
        return self.history.points(pool, since=since, limit=limit), "memory"

    async def _sample(self) -> None:
        while True:
            self.sample()
            await self._clock.sleep(SAMPLE_S)

    async def _store(self) -> None:
        while True:
            await self._clock.sleep(SAMPLE_S)
            if not self._waiting:
                continue
            batch = list(self._waiting)
            try:
                async with asyncio.timeout(2 * TIMEOUT_S):
                    pipeline = self._redis.pipeline(transaction=False)
                    for pool, data in batch:
                        pipeline.xadd(
                            _key(pool), {"data": data}, maxlen=self._stored, approximate=True
                        )
                    await pipeline.execute()
            except (RedisError, OSError, TimeoutError) as error:
                # Perhaps some were stored: then they are there twice, at the same time.
                if not self._told_away:
                    log.warning("history-not-stored", error=str(error) or type(error).__name__)
                self._told_away = True
                continue
            self._told_away = False
            stored = set(map(id, batch))
            while self._waiting and id(self._waiting[0]) in stored:
                self._waiting.popleft()


def _key(pool: str) -> str:
    return f"pointsman:v1:{pool}:digests"


def _decoded(fields: dict[bytes, bytes]) -> HistoryPoint | None:
    try:
        return msgspec.json.decode(fields.get(b"data", b""), type=HistoryPoint)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
