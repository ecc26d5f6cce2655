"""Announces the pools on the bus: configurations, snapshots and deltas; a lost one is mended by the
next snapshot.

Snapshots and deltas of a pool share one sequence, so that a reader notices any loss.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contract_codec import encode_pool_config
from pointsman_common.contracts import pool_pb2
from pointsman_common.envelope import EnvelopeStamp
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.pool_digest import PoolDigests
from pointsman_datalayer.core.pool_snapshot import PoolChanges, build_snapshot
from pointsman_datalayer.metrics import Metrics
from pointsman_datalayer.settings import DatalayerSettings

DIGEST_S = 0.25
"""How often regimes are judged anew."""


@dataclass(slots=True)
class _Announced:
    changes: PoolChanges
    config_hash: str | None = None
    config_at: float = field(default=float("-inf"))
    snapshot_at: float = field(default=float("-inf"))
    gone: bool = False


class PoolSnapshotPublisher:
    """A part of a service. `speaks` says of which pools this replica tells; all are judged."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        stamp: EnvelopeStamp,
        *,
        registry: EndpointRegistry,
        digests: PoolDigests,
        metrics: Metrics,
        settings: DatalayerSettings,
        speaks: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._bus, self._clock, self._stamp = bus, clock, stamp
        self._registry, self._digests, self._metrics = registry, digests, metrics
        self._settings, self._speaks = settings, speaks
        self._announced: dict[str, _Announced] = {}
        self._digested_at = float("-inf")
        bus.on_reconnect(self._tell_all_again)

    async def run(self) -> None:
        while True:
            self.publish()
            await self._clock.sleep(self._settings.delta_interval_s)

    def publish(self) -> None:
        """Tell what has become due."""
        now = self._clock.monotonic()
        if now - self._digested_at >= DIGEST_S:
            self._digested_at = now
            self._digests.update(now)
            for forgotten in self._announced.keys() - self._registry.pools().keys():
                del self._announced[forgotten]
        for pool, state in self._registry.pools().items():
            if not self._speaks(pool):
                self._announced.pop(pool, None)
                continue
            announced = self._announced.get(pool)
            if announced is None:
                changes = PoolChanges(refresh_s=self._settings.delta_refresh_s)
                announced = self._announced[pool] = _Announced(changes)
            if announced.gone != state.gone:
                announced.gone = state.gone
                announced.config_hash, announced.snapshot_at = None, float("-inf")
            new_config = announced.config_hash != state.config.hash
            due = new_config or now - announced.config_at >= self._settings.config_interval_s
            if due and not state.gone:
                announced.config_hash, announced.config_at = state.config.hash, now
                self._send("config", subjects.pool_config(pool), self._config(pool, again=False))
            if now - announced.snapshot_at >= self._settings.snapshot_interval_s:
                announced.snapshot_at = now
                self._send_snapshot(pool, announced.changes, now)
            else:
                self._send_delta(pool, announced.changes, now)

    def state(self, pool: str) -> pool_pb2.PoolState:
        """Configuration and snapshot as of now, under the last sequence that was sent.

        What happened since that message is told once more by the next delta, which does no harm.
        """
        now = self._clock.monotonic()
        snapshot = self._snapshot(pool, now)
        snapshot.envelope.CopyFrom(self._stamp.last(subjects.pool_delta(pool)))
        return pool_pb2.PoolState(config=self._config(pool, again=True), snapshot=snapshot)

    def _config(self, pool: str, *, again: bool) -> pool_pb2.PoolConfig:
        config = encode_pool_config(self._registry.pools()[pool].config)
        subject = subjects.pool_config(pool)
        config.envelope.CopyFrom(self._stamp.last(subject) if again else self._stamp.next(subject))
        return config

    def _snapshot(self, pool: str, now: float) -> pool_pb2.PoolSnapshot:
        state, regime = self._registry.pools()[pool], self._digests.regime(pool)
        endpoints = self._registry.endpoints(pool)
        return build_snapshot(pool, endpoints, regime, state.config.hash, now, gone=state.gone)

    def _send_snapshot(self, pool: str, changes: PoolChanges, now: float) -> None:
        snapshot = self._snapshot(pool, now)
        changes.told_all(self._registry.endpoints(pool), snapshot.regime)
        snapshot.envelope.CopyFrom(self._stamp.next(subjects.pool_delta(pool)))
        self._send("snapshot", subjects.pool_snapshot(pool), snapshot)

    def _send_delta(self, pool: str, changes: PoolChanges, now: float) -> None:
        endpoints, regime = self._registry.endpoints(pool), self._digests.regime(pool)
        delta = changes.delta(pool, endpoints, regime, now)
        if delta is not None:
            delta.envelope.CopyFrom(self._stamp.next(subjects.pool_delta(pool)))
            self._send("delta", subjects.pool_delta(pool), delta)

    def _send(
        self,
        kind: str,
        subject: str,
        message: pool_pb2.PoolConfig | pool_pb2.PoolSnapshot | pool_pb2.PoolDelta,
    ) -> None:
        self._metrics.bus_messages.labels(kind).inc()
        self._bus.publish(subject, message.SerializeToString())

    def _tell_all_again(self) -> None:
        for announced in self._announced.values():
            announced.config_hash = None
            announced.snapshot_at = float("-inf")
