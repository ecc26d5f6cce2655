"""Finds the other replicas of the datalayer by leases in Redis, and so which share is one's own.

Each replica renews its lease several times in its life; one whose lease has run out is gone, and
its share is taken over. A replica that cannot hear the answers does not renew: the others would
count on it, and it would not know of them. All times are Redis's own. While Redis is away every
replica goes on with the last share.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import redis.asyncio as redis_client
from redis.exceptions import RedisError

from pointsman_common.clock import Clock
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.core.shards import SETTLED_S, Shards
from pointsman_datalayer.metrics import Metrics

log = get_logger("replica-leases")

ALIVE, JOINED = "pointsman:v1:{datalayers}:alive", "pointsman:v1:{datalayers}:joined"
LEASE_S = 1.2
RENEW_S = 0.3
TIMEOUT_S = 0.5
WAIT_AT_START_S = 2.0
"""After so long without Redis a replica that starts takes itself to be alone."""

# Renews the caller's lease, if it has a name, and returns who is there and for how many ms.
RENEW = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ms)) do
  redis.call('ZREM', KEYS[1], gone)
  redis.call('HDEL', KEYS[2], gone)
end
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], ms + ARGV[2], ARGV[1])
  redis.call('HSETNX', KEYS[2], ARGV[1], ms)
end
local found = {}
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  found[#found + 1] = name
  found[#found + 1] = ms - redis.call('HGET', KEYS[2], name)
end
return found
"""


class ReplicaLeases:
    """A part of a service. A replica joins once it knows the pools and can tell of them."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        shards: Shards,
        metrics: Metrics,
        *,
        ready: Callable[[], bool],
    ) -> None:
        self._redis: Any = redis_client.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._clock, self._shards, self._metrics, self._ready = clock, shards, metrics, ready
        self._left = False
        self._away = True
        self._back_at = float("-inf")

    async def run(self) -> None:
        began_at = self._clock.monotonic()
        try:
            while True:
                if not await self._renew():
                    waited_s = self._clock.monotonic() - began_at
                    if waited_s >= WAIT_AT_START_S:
                        self._shards.give_up_waiting()
                await self._clock.sleep(RENEW_S)
        finally:
            await self._redis.aclose()

    async def drain(self, grace_s: float) -> None:
        """Leave, so that the others take the share over at once."""
        del grace_s
        self._left = True
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._redis.zrem(ALIVE, self._shards.replica)
        except (RedisError, OSError, TimeoutError) as error:
            log.info("lease-not-given-up", why=str(error) or type(error).__name__)

    async def _renew(self) -> bool:
        joining = self._ready() and not self._left
        name = self._shards.replica if joining else ""
        try:
            if self._away:
                await self._ask("")
            found = await self._ask(name)
        except (RedisError, OSError, TimeoutError):
            self._away = True
            return False
        ages_s = {
            found[index].decode(): int(found[index + 1]) / 1e3 for index in range(0, len(found), 2)
        }
        now = self._clock.monotonic()
        if self._away:
            self._away, self._back_at = False, now
        if now - self._back_at < LEASE_S:  # the others have had no time to come back yet
            ages_s = dict.fromkeys(self._shards.members, SETTLED_S) | ages_s
        if self._shards.heard(ages_s):
            log.info("shares-changed", replicas=sorted(self._shards.members))
        self._metrics.replicas.set(len(ages_s))
        return True

    async def _ask(self, name: str) -> Any:
        """Renew the lease of a name, or of nobody; returns who is there, and for how many ms."""
        async with asyncio.timeout(2 * TIMEOUT_S):
            return await self._redis.eval(RENEW, 2, ALIVE, JOINED, name, round(LEASE_S * 1e3))
