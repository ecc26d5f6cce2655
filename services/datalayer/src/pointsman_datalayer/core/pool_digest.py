"""What the state of each pool amounts to: its load, its regime and the replicas it asks for."""

from collections.abc import Callable
from dataclasses import dataclass

from pointsman_common.contracts.pool_pb2 import Regime
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.replica_recommendation import ReplicaLimits, ReplicaRecommendation
from pointsman_datalayer.core.scarcity_regime import PoolLoad, ScarcityRegime, measure_load


@dataclass(frozen=True, slots=True)
class DigestLimits:
    stale_after_s: float
    rise_s: float
    fall_s: float
    replicas: ReplicaLimits


@dataclass(slots=True)
class _PoolDigest:
    regime: ScarcityRegime
    recommendation: ReplicaRecommendation
    load: PoolLoad
    message: Regime


class PoolDigests:
    """The digests of every pool, as of the last `update`."""

    def __init__(
        self, registry: EndpointRegistry, in_flight: Callable[[str], int], limits: DigestLimits
    ) -> None:
        self._registry, self._in_flight, self._limits = registry, in_flight, limits
        self._pools: dict[str, _PoolDigest] = {}

    def regime(self, pool: str) -> Regime:
        digest = self._pools.get(pool)
        return digest.message if digest else Regime()

    def load(self, pool: str) -> PoolLoad | None:
        digest = self._pools.get(pool)
        return digest.load if digest else None

    def update(self, now: float) -> None:
        """Judge every pool anew; `now` in monotonic seconds."""
        for gone in self._pools.keys() - self._registry.pools().keys():
            del self._pools[gone]
        for pool in self._registry.pools():
            load = measure_load(
                self._registry.endpoints(pool),
                in_flight=self._in_flight(pool),
                now=now,
                stale_after_s=self._limits.stale_after_s,
            )
            digest = self._pools.get(pool)
            if digest is None:
                digest = self._pools[pool] = _PoolDigest(
                    ScarcityRegime(rise_s=self._limits.rise_s, fall_s=self._limits.fall_s),
                    ReplicaRecommendation(self._limits.replicas),
                    load,
                    Regime(),
                )
            digest.load, digest.message = load, digest.regime.update(load, now)
            replicas = digest.recommendation.update(load, now)
            if replicas is not None:
                digest.message.recommended_replicas = replicas
