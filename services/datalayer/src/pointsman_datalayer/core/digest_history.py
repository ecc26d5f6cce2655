"""What the digests of a pool said over time: a point each few seconds, and whenever they change."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from pointsman_common.contracts.pool_pb2 import Regime
from pointsman_datalayer.core.scarcity_regime import scarcity_name


class HistoryPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a pool; see Regime in pool.proto. `None`: not known then."""

    at: float
    """Seconds since 1970."""
    scarcity: str
    reason: str
    saturation: float
    ready_endpoints: int
    in_flight: int
    queued_requests: int
    requests_per_s: float
    utilization: float | None = None
    predicted_ttft_s: float | None = None
    recommended_replicas: int | None = None
    recommendation_reason: str = ""


def history_point(regime: Regime, in_flight: int, at: float) -> HistoryPoint:
    """`at` in seconds since 1970."""
    known = regime.HasField
    return HistoryPoint(
        at=round(at, 3),
        scarcity=scarcity_name(regime.scarcity),
        reason=regime.reason,
        saturation=round(regime.saturation, 4),
        ready_endpoints=regime.ready_endpoints,
        in_flight=in_flight,
        queued_requests=regime.queued_requests,
        requests_per_s=round(regime.requests_per_s, 3),
        utilization=round(regime.utilization, 4) if known("utilization") else None,
        predicted_ttft_s=round(regime.predicted_ttft_s, 4) if known("predicted_ttft_s") else None,
        recommended_replicas=(
            regime.recommended_replicas if known("recommended_replicas") else None
        ),
        recommendation_reason=regime.recommendation_reason,
    )


@dataclass(slots=True)
class DigestHistory:
    """Of all pools; of each the last `capacity` points are kept."""

    interval_s: float = 5.0
    capacity: int = 720
    _pools: dict[str, deque[HistoryPoint]] = field(default_factory=dict[str, deque[HistoryPoint]])

    def observe(self, pool: str, point: HistoryPoint) -> bool:
        """Keep a point when it is due or tells of a change; returns whether it was kept."""
        points = self._pools.get(pool)
        if points is None:
            points = self._pools[pool] = deque(maxlen=self.capacity)
        if points:
            last = points[-1]
            same = (last.scarcity, last.recommended_replicas, last.ready_endpoints) == (
                point.scarcity,
                point.recommended_replicas,
                point.ready_endpoints,
            )
            if same and point.at - last.at < self.interval_s:
                return False
        points.append(point)
        return True

    def points(self, pool: str, *, since: float, limit: int) -> list[HistoryPoint]:
        """The latest points not older than `since` (seconds since 1970), oldest first."""
        found = [point for point in self._pools.get(pool, ()) if point.at >= since]
        return found[-limit:]

    def keep_only(self, pools: Iterable[str]) -> None:
        for gone in self._pools.keys() - set(pools):
            del self._pools[gone]
