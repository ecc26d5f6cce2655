"""The latest state of every pool and its age. Pure: messages and times come from outside."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from pointsman_common.contract_codec import decode_endpoint, decode_metrics, decode_pool_config
from pointsman_common.contracts import pool_pb2
from pointsman_common.contracts.layer_pb2 import Envelope
from pointsman_common.endpoint import Endpoint
from pointsman_common.inference_pool import InferencePool


@dataclass
class PoolRecord:
    """What is known of one pool. `version` grows with each change of endpoints or metrics."""

    config: InferencePool
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    """By uid."""
    regime: pool_pb2.Regime = field(default_factory=pool_pb2.Regime)
    version: int = 0
    membership_version: int = 0
    """Grows when an endpoint comes, goes, or changes other than in metrics."""
    publisher: str = ""
    sequence: int = 0
    heard_at: float = float("-inf")
    """Monotonic seconds of the last state message."""

    def ready_endpoints(self) -> Iterator[Endpoint]:
        return (endpoint for endpoint in self.endpoints.values() if endpoint.ready)


class PoolView:
    """Applies snapshots and deltas in order; tells when a gap needs a snapshot.

    A reader may keep references: endpoints are values, replaced and never changed.
    """

    def __init__(self, *, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._pools: dict[str, PoolRecord] = {}
        self._heard: dict[tuple[str, str], tuple[int, int]] = {}
        self._incomplete: set[tuple[str, str]] = set()
        self._listeners: list[Callable[[str], None]] = []

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Have a listener called with the pool's name after each change. It must not block."""
        self._listeners.append(listener)

    def pools(self) -> Iterable[str]:
        return self._pools.keys()

    def get(self, pool: str) -> PoolRecord | None:
        return self._pools.get(pool)

    def age_s(self, pool: str, now: float) -> float:
        """Seconds since the pool's state was last heard of; infinite when never."""
        record = self._pools.get(pool)
        return float("inf") if record is None else max(0.0, now - record.heard_at)

    def is_fresh(self, now: float) -> bool:
        """Whether at least one pool is known and all are younger than `max_age_s`."""
        return bool(self._pools) and all(
            self.age_s(pool, now) <= self._max_age_s for pool in self._pools
        )

    def is_known(self) -> bool:
        """Whether any pool's endpoints were ever heard of."""
        return any(record.publisher for record in self._pools.values())

    def apply_config(self, message: pool_pb2.PoolConfig) -> bool:
        """Take over a configuration; returns whether it differs from the one in force."""
        config = decode_pool_config(message)
        record = self._pools.get(config.name)
        if record is None:
            self._pools[config.name] = PoolRecord(config)
        elif record.config == config:
            return False
        else:
            record.config = config
            record.version += 1
            record.membership_version += 1
        self._tell(config.name)
        return True

    def apply_snapshot(self, message: pool_pb2.PoolSnapshot, now: float) -> bool:
        """Take over a whole state, unless it is older than what its publisher said last."""
        key, here = (message.pool, message.envelope.publisher), _position(message.envelope)
        if here < self._heard.get(key, (0, 0)):
            return False
        self._heard[key] = here
        self._incomplete.discard(key)
        record = self._record(message.pool)
        record.endpoints = {item.uid: decode_endpoint(item, now) for item in message.endpoints}
        record.regime = message.regime
        record.membership_version += 1
        self._settle(record, message.envelope, now)
        return True

    def apply_delta(self, message: pool_pb2.PoolDelta, now: float) -> bool:
        """Apply a change; returns False when messages before it are missing: ask for a snapshot."""
        key, here = (message.pool, message.envelope.publisher), _position(message.envelope)
        seen = self._heard.get(key)
        if seen is not None and here <= seen:
            return True
        if seen is None or here != (seen[0], seen[1] + 1) or key in self._incomplete:
            self._incomplete.add(key)
            return False
        self._heard[key] = here
        record = self._record(message.pool)
        if message.upserted or message.removed:
            record.membership_version += 1
        for item in message.upserted:
            record.endpoints[item.uid] = decode_endpoint(item, now)
        for uid in message.removed:
            record.endpoints.pop(uid, None)
        for update in message.metrics:
            known = record.endpoints.get(update.uid)
            if known is not None:
                metrics = decode_metrics(update.metrics, now)
                record.endpoints[update.uid] = replace(known, metrics=metrics)
        if message.HasField("regime"):
            record.regime = message.regime
        self._settle(record, message.envelope, now)
        return True

    def mark_unreachable(self, pool: str, uid: str, why: str) -> None:
        """Stop using an endpoint at once, until the datalayer says otherwise."""
        record = self._pools.get(pool)
        endpoint = record.endpoints.get(uid) if record else None
        if record is None or endpoint is None or not endpoint.ready:
            return
        record.endpoints[uid] = replace(endpoint, ready=False, not_ready_reason=why)
        record.version += 1
        record.membership_version += 1
        self._tell(pool)

    def _record(self, pool: str) -> PoolRecord:
        return self._pools.setdefault(pool, PoolRecord(InferencePool(name=pool)))

    def _settle(self, record: PoolRecord, envelope: Envelope, now: float) -> None:
        record.version += 1
        record.publisher, record.sequence = envelope.publisher, envelope.sequence
        record.heard_at = now
        self._tell(record.config.name)

    def _tell(self, pool: str) -> None:
        for listener in self._listeners:
            listener(pool)


def _position(envelope: Envelope) -> tuple[int, int]:
    return envelope.epoch, envelope.sequence
