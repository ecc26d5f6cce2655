"""What the state of each pool amounts to: its load, its regimes and the replicas it asks for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pointsman_common.contracts.pool_pb2 import Regime
from pointsman_common.in_flight import Lease
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry, PoolState
from pointsman_datalayer.core.model_regimes import ModelRegimes
from pointsman_datalayer.core.pool_demand import DemandBook, OpenWork, sum_up
from pointsman_datalayer.core.pool_load import PoolLoad, measure_load, with_demand
from pointsman_datalayer.core.replica_recommendation import ReplicaLimits, ReplicaRecommendation
from pointsman_datalayer.core.scarcity_regime import ScarcityRegime


@dataclass(frozen=True, slots=True)
class DigestLimits:
    stale_after_s: float
    rise_s: float
    fall_s: float
    replicas: ReplicaLimits
    scale_to_zero_after_s: float = 0.0
    """0: a pool keeps a replica however long it is idle."""


@dataclass(slots=True)
class _PoolDigest:
    regime: ScarcityRegime
    models: ModelRegimes
    recommendation: ReplicaRecommendation
    busy_at: float
    """When there was work last; at first, when the pool was first seen."""
    load: PoolLoad | None = None
    message: Regime = field(default_factory=Regime)


class PoolDigests:
    """The digests of every pool, as of the last `update`.

    `leases` are those that are open, `queued` tells of requests in the flow controllers' queues.
    """

    def __init__(
        self,
        registry: EndpointRegistry,
        in_flight: Callable[[str], int],
        limits: DigestLimits,
        *,
        demand: DemandBook | None = None,
        leases: Callable[[], Iterable[Lease]] = tuple,
        queued: Callable[[str, float], int] = lambda _pool, _now: 0,
    ) -> None:
        self._registry, self._in_flight, self._limits = registry, in_flight, limits
        self._demand, self._leases, self._queued = demand or DemandBook(), leases, queued
        self._pools: dict[str, _PoolDigest] = {}

    def regime(self, pool: str) -> Regime:
        digest = self._pools.get(pool)
        return digest.message if digest else Regime()

    def load(self, pool: str) -> PoolLoad | None:
        digest = self._pools.get(pool)
        return digest.load if digest else None

    def update(self, now: float) -> None:
        """Judge every pool anew; `now` in monotonic seconds."""
        known = self._registry.pools()
        for gone in self._pools.keys() - known.keys():
            del self._pools[gone]
        self._demand.keep_only(known)
        open_work = sum_up(self._leases())
        for pool, state in known.items():
            digest = self._pools.get(pool)
            if digest is None:
                digest = self._pools[pool] = self._new(now)
            self._judge(pool, state, digest, open_work.get(pool) or OpenWork(), now)

    def _new(self, now: float) -> _PoolDigest:
        limits = self._limits
        return _PoolDigest(
            ScarcityRegime(rise_s=limits.rise_s, fall_s=limits.fall_s),
            ModelRegimes(limits.rise_s, limits.fall_s, limits.stale_after_s),
            ReplicaRecommendation(limits.replicas),
            busy_at=now,
        )

    def _judge(
        self, pool: str, state: PoolState, digest: _PoolDigest, work: OpenWork, now: float
    ) -> None:
        limits, endpoints = self._limits, tuple(self._registry.endpoints(pool))
        demand = self._demand.demand(pool, now)
        seen = measure_load(
            endpoints,
            in_flight=self._in_flight(pool),
            now=now,
            stale_after_s=limits.stale_after_s,
        )
        load = with_demand(
            seen,
            demand,
            work,
            queued=self._queued(pool, now),
            ttft_slo_s=limits.replicas.ttft_slo_s,
        )
        if load.busy:
            digest.busy_at = now
        idle_s, patience_s = now - digest.busy_at, limits.scale_to_zero_after_s
        load = replace(load, idle_s=idle_s, scale_to_zero=0.0 < patience_s <= idle_s)
        digest.load, digest.message = load, digest.regime.update(load, now)
        replicas = digest.recommendation.update(load, now)
        if replicas is not None:
            digest.message.recommended_replicas = replicas
            digest.message.recommendation_reason = digest.recommendation.reason
        digest.message.models.extend(
            digest.models.update(
                state.config,
                endpoints,
                pool=load,
                demand=demand,
                in_flight=work.by_model,
                now=now,
            )
        )
