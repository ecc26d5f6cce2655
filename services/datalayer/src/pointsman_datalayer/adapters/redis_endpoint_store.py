"""The last state of each pool and the history of decisions in Redis. Nothing waits for it.

Keys: `pointsman:v1:pools` (a set of names), `pointsman:v1:<pool>:state` (a hash: `config` and
`snapshot` as in pool.proto, `at` in seconds since 1970) and `pointsman:v1:<pool>:decisions` (a
capped stream: `kind` decision or finished, `decision`, `request`, `lease`, `data` as in proto).

While Redis is away entries wait in a bounded queue, from which the oldest are dropped and counted.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any

import redis.asyncio as redis_client
from google.protobuf.message import DecodeError
from redis.exceptions import RedisError

from pointsman_common.clock import Clock
from pointsman_common.contract_codec import decode_endpoints, decode_pool_config
from pointsman_common.contracts import pool_pb2
from pointsman_common.contracts.events_pb2 import RequestFinished
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.adapters.pool_snapshot_publisher import PoolSnapshotPublisher
from pointsman_datalayer.core.decision_log import Decision
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.metrics import Metrics

log = get_logger("redis-store")

PREFIX = "pointsman:v1"
TIMEOUT_S = 1.0
FLUSH_S = 0.1
STATE_S = 1.0
BATCH = 500
QUEUE = 10_000
QUEUE_BYTES = 64 << 20

Entry = tuple[str, dict[str, str | bytes]]


class RedisAwayError(Exception):
    """Redis could not be reached or did not answer in time."""


class RedisEndpointStore:
    """A part of a service."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        registry: EndpointRegistry,
        publisher: PoolSnapshotPublisher,
        metrics: Metrics,
        *,
        decisions_stored: int,
    ) -> None:
        self._redis: Any = redis_client.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._clock, self._registry, self._publisher = clock, registry, publisher
        self._metrics, self._decisions_stored = metrics, decisions_stored
        self._waiting: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._up: bool | None = None
        self._known_pools: set[str] = set()

    def keep_decision(self, receipt: DecisionReceipt, payload: bytes) -> None:
        """Queue a receipt; never waits."""
        self._put(
            receipt.descriptor.pool,
            {
                "kind": "decision",
                "decision": receipt.decision_id,
                "request": receipt.descriptor.request_id,
                "lease": receipt.lease_id,
                "data": payload,
            },
        )

    def keep_finish(self, pool: str, event: RequestFinished) -> None:
        """Queue the end of a request; never waits."""
        data = event.SerializeToString()
        self._put(pool, {"kind": "finished", "lease": event.lease_id, "data": data})

    async def run(self) -> None:
        try:
            await self._guarded(self._restore())
            saved_at = float("-inf")
            while True:
                await self._clock.sleep(FLUSH_S)
                if self._waiting:
                    await self._guarded(self._flush())
                if self._clock.monotonic() - saved_at >= STATE_S:
                    saved_at = self._clock.monotonic()
                    await self._guarded(self._save())
        finally:
            await self._redis.aclose()

    async def drain(self, grace_s: float) -> None:
        """Store what is waiting, if Redis is there."""
        del grace_s
        if self._up and self._waiting:
            await self._guarded(self._flush())

    async def find(self, pool: str, key: str) -> Decision | None:
        """Look a decision up in the history, newest first, by decision or request id.

        Raises:
            RedisAwayError: there is no history to look in now.
        """
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                return await self._search(pool, key.encode())
        except (RedisError, OSError, TimeoutError) as error:
            raise RedisAwayError(str(error)) from error

    def _put(self, pool: str, fields: dict[str, str | bytes]) -> None:
        self._waiting.append((_key(pool, "decisions"), fields))
        self._waiting_bytes += len(fields["data"])
        while len(self._waiting) > QUEUE or self._waiting_bytes > QUEUE_BYTES:
            _, dropped = self._waiting.popleft()
            self._waiting_bytes -= len(dropped["data"])
            self._metrics.redis_dropped.inc()

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Do some work with Redis; its absence is told once, and work goes on without."""
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                await work
        except (RedisError, OSError, TimeoutError) as error:
            if self._up is not False:
                log.warning("redis-away", error=str(error) or type(error).__name__)
            self._up = False
        else:
            if not self._up:
                log.info("redis-connected")
            self._up = True
        self._metrics.redis_up.set(bool(self._up))

    async def _restore(self) -> None:
        names = await self._redis.smembers(f"{PREFIX}:pools")
        for name in sorted(names):
            pool = name.decode()
            state = await self._redis.hgetall(_key(pool, "state"))
            try:
                config = pool_pb2.PoolConfig.FromString(state[b"config"])
                snapshot = pool_pb2.PoolSnapshot.FromString(state[b"snapshot"])
                age_s = max(0.0, self._clock.wall() - float(state[b"at"]))
            except (KeyError, ValueError, DecodeError):
                log.warning("redis-state-unreadable", pool=pool)
                continue
            # What was so many seconds old when it was stored has aged since.
            then = self._clock.monotonic() - age_s
            endpoints = decode_endpoints(snapshot.endpoints, then)
            self._registry.restore(decode_pool_config(config), endpoints)
            self._known_pools.add(pool)
            log.info("pool-restored", pool=pool, endpoints=len(endpoints), age_s=round(age_s, 1))

    async def _save(self) -> None:
        pools = self._registry.pools()
        live = {name for name, state in pools.items() if not state.gone and not state.restored}
        pipeline = self._redis.pipeline(transaction=False)
        for name in live:
            state = self._publisher.state(name)
            pipeline.sadd(f"{PREFIX}:pools", name)
            pipeline.hset(
                _key(name, "state"),
                mapping={
                    "config": state.config.SerializeToString(),
                    "snapshot": state.snapshot.SerializeToString(),
                    "at": repr(self._clock.wall()),
                },
            )
        # Only pools that this replica has seen go: others may be another's.
        gone = {name for name in self._known_pools if name in pools and pools[name].gone}
        for name in gone:
            pipeline.srem(f"{PREFIX}:pools", name)
            pipeline.delete(_key(name, "state"))
        await pipeline.execute()
        self._known_pools = (self._known_pools | live) - gone

    async def _flush(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._waiting_bytes -= sum(len(fields["data"]) for _, fields in batch)
            pipeline = self._redis.pipeline(transaction=False)
            for key, fields in batch:
                pipeline.xadd(key, fields, maxlen=self._decisions_stored, approximate=True)
            try:
                await pipeline.execute()
            except BaseException:
                # Perhaps some were stored: a reader takes the newest of two that are the same.
                self._waiting.extendleft(reversed(batch))
                self._waiting_bytes += sum(len(fields["data"]) for _, fields in batch)
                raise

    async def _search(self, pool: str, key: bytes) -> Decision | None:
        finished: dict[bytes, bytes] = {}
        before = "+"
        for _ in range(0, 4 * self._decisions_stored, BATCH):
            page = await self._redis.xrevrange(_key(pool, "decisions"), max=before, count=BATCH)
            for entry_id, fields in page:
                before = f"({entry_id.decode()}"
                if fields.get(b"kind") == b"finished":
                    finished[fields.get(b"lease", b"")] = fields.get(b"data", b"")
                elif key in (fields.get(b"decision"), fields.get(b"request")):
                    return _decision(fields, finished.get(fields.get(b"lease", b"")))
            if len(page) < BATCH:
                return None
        return None


def _decision(fields: dict[bytes, bytes], finished: bytes | None) -> Decision | None:
    try:
        receipt = DecisionReceipt.FromString(fields[b"data"])
        event = None if finished is None else RequestFinished.FromString(finished)
    except (KeyError, DecodeError):
        return None
    return Decision(receipt, len(fields[b"data"]), event)


def _key(pool: str, kind: str) -> str:
    return f"{PREFIX}:{pool}:{kind}"
