"""Registry, metrics and regime as messages: one snapshot, or what changed since the last message.

`PoolChanges` remembers what its readers have been told of one pool. Metrics that stayed the same
are told again when what the readers hold has become older than `refresh_s`: an age is a value too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from operator import attrgetter

from pointsman_common.contract_codec import encode_endpoint, encode_metrics
from pointsman_common.contracts import pool_pb2
from pointsman_common.endpoint import Endpoint, EndpointMetrics


def build_snapshot(
    pool: str,
    endpoints: Iterable[Endpoint],
    regime: pool_pb2.Regime,
    config_hash: str,
    now: float,
    *,
    gone: bool = False,
) -> pool_pb2.PoolSnapshot:
    """The whole state, but for the envelope; ages are as of `now`, in monotonic seconds."""
    return pool_pb2.PoolSnapshot(
        pool=pool,
        endpoints=[encode_endpoint(endpoint, now) for endpoint in endpoints],
        regime=regime,
        config_hash=config_hash,
        gone=gone,
    )


_membership = attrgetter(*(one.name for one in fields(Endpoint) if one.name != "metrics"))
_values = attrgetter(*(one.name for one in fields(EndpointMetrics) if one.name != "read_at"))
"""Compared for every endpoint that was read: copies without the field would cost ten times that."""


@dataclass(slots=True)
class PoolChanges:
    refresh_s: float
    _told: dict[str, Endpoint] = field(default_factory=dict[str, Endpoint])
    _regime: bytes = b""

    def told_all(self, endpoints: Iterable[Endpoint], regime: pool_pb2.Regime) -> None:
        """A snapshot was sent."""
        self._told = {endpoint.uid: endpoint for endpoint in endpoints}
        self._regime = _essence(regime)

    def delta(
        self, pool: str, endpoints: Iterable[Endpoint], regime: pool_pb2.Regime, now: float
    ) -> pool_pb2.PoolDelta | None:
        """What the readers do not know yet, but for the envelope; `None` when they know all.

        The caller sends what it gets: it counts as told.
        """
        delta = pool_pb2.PoolDelta(pool=pool)
        seen: set[str] = set()
        for endpoint in endpoints:
            seen.add(endpoint.uid)
            known = self._told.get(endpoint.uid)
            if known is endpoint:  # the registry keeps what has not changed
                continue
            if known is None or _membership(known) != _membership(endpoint):
                delta.upserted.append(encode_endpoint(endpoint, now))
            elif self._worth_telling(known.metrics, endpoint.metrics):
                metrics = encode_metrics(endpoint.metrics, now)
                delta.metrics.append(pool_pb2.MetricsUpdate(uid=endpoint.uid, metrics=metrics))
            else:
                continue
            self._told[endpoint.uid] = endpoint
        for uid in self._told.keys() - seen:
            delta.removed.append(uid)
            del self._told[uid]
        if (essence := _essence(regime)) != self._regime:
            self._regime = essence
            delta.regime.CopyFrom(regime)
        empty = not (delta.upserted or delta.metrics or delta.removed or delta.HasField("regime"))
        return None if empty else delta

    def _worth_telling(self, known: EndpointMetrics, current: EndpointMetrics) -> bool:
        if known.read_at is None or current.read_at is None:
            return known != current
        if current.read_at - known.read_at >= self.refresh_s:
            return True
        return _values(known) != _values(current)


def _essence(regime: pool_pb2.Regime) -> bytes:
    """What makes a regime worth telling between snapshots: not its wording, age or averages."""
    told = pool_pb2.Regime(
        scarcity=regime.scarcity,
        ready_endpoints=regime.ready_endpoints,
        stale_endpoints=regime.stale_endpoints,
    )
    if regime.HasField("recommended_replicas"):
        told.recommended_replicas = regime.recommended_replicas
    return told.SerializeToString()
