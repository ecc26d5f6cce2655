"""The latest state of every pool and its age. Pure: messages and times come from outside."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from pointsman_common.contract_codec import decode_endpoint, decode_metrics, decode_pool_config
from pointsman_common.contracts import pool_pb2
from pointsman_common.contracts.layer_pb2 import Envelope
from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_common.inference_pool import InferencePool

_NO_METRICS = EndpointMetrics()


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


@dataclass(slots=True)
class _Publisher:
    """What was heard of one publisher about one pool. Positions are (epoch, sequence)."""

    config_at: tuple[int, int] = (0, 0)
    state_at: tuple[int, int] | None = None
    ahead: dict[tuple[int, int], tuple[pool_pb2.PoolDelta, float]] = field(default_factory=dict)
    """Deltas that arrived while one before them is missing, and when they arrived."""


class PoolView:
    """Applies snapshots and deltas in order; tells when a gap needs a snapshot.

    A delta that comes too early waits for what is missing, so that a snapshot asked for elsewhere
    joins the deltas that overtook it. A reader may keep references: endpoints are values, replaced
    and never changed.
    """

    def __init__(
        self, *, max_age_s: float, publishers: int = 1024, deltas_ahead: int = 256
    ) -> None:
        self._max_age_s = max_age_s
        self._most_publishers, self._deltas_ahead = publishers, deltas_ahead
        self._pools: dict[str, PoolRecord] = {}
        self._publishers: OrderedDict[tuple[str, str], _Publisher] = OrderedDict()
        self._listeners: list[Callable[[str], None]] = []

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Have a listener called with the pool's name after each change. It must not block."""
        self._listeners.append(listener)

    def pools(self) -> Iterable[str]:
        return tuple(self._pools)

    def get(self, pool: str) -> PoolRecord | None:
        return self._pools.get(pool)

    def age_s(self, pool: str, now: float) -> float:
        """Seconds since the pool's state was last heard of; infinite when never."""
        record = self._pools.get(pool)
        return float("inf") if record is None else max(0.0, now - record.heard_at)

    def is_fresh(self, now: float) -> bool:
        """Whether the state of at least one pool is younger than `max_age_s`."""
        return any(self.age_s(pool, now) <= self._max_age_s for pool in self._pools)

    def is_known(self) -> bool:
        """Whether any pool's endpoints were ever heard of."""
        return any(record.heard_at > float("-inf") for record in self._pools.values())

    def apply_config(self, message: pool_pb2.PoolConfig) -> bool:
        """Take over a configuration, unless its publisher has sent a later one.

        Returns whether it differs from the one in force.
        """
        publisher, here = self._publisher(message.pool, message.envelope)
        if here < publisher.config_at:
            return False
        publisher.config_at = here
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
        """Take over a whole state, unless it is older than what its publisher said last.

        One that says that the pool is gone forgets it.
        """
        publisher, here = self._publisher(message.pool, message.envelope)
        if publisher.state_at is not None and here < publisher.state_at:
            return False
        publisher.state_at = here
        if message.gone:
            # The publisher's place stays known: what it said before must not bring the pool back.
            publisher.ahead.clear()
            if self._pools.pop(message.pool, None) is not None:
                self._tell(message.pool)
            return True
        record = self._record(message.pool)
        endpoints = {item.uid: decode_endpoint(item, now) for item in message.endpoints}
        if _members(endpoints) != _members(record.endpoints):
            record.membership_version += 1
        record.endpoints, record.regime = endpoints, message.regime
        self._settle(record, message.envelope, now)
        self._catch_up(publisher, record, now)
        self._tell(message.pool)
        return True

    def apply_delta(self, message: pool_pb2.PoolDelta, now: float) -> bool:
        """Apply a change; returns False when messages before it are missing: ask for a snapshot.

        Nothing has to be sent again then: the change waits here for the snapshot.
        """
        publisher, here = self._publisher(message.pool, message.envelope)
        if publisher.state_at is not None and here <= publisher.state_at:
            return True
        if publisher.state_at is not None and message.pool not in self._pools:
            return True  # gone: only a snapshot can say that it is there again
        publisher.ahead[here] = (message, now)
        if len(publisher.ahead) > self._deltas_ahead:
            del publisher.ahead[min(publisher.ahead)]
        if publisher.state_at is None:
            return False
        if self._catch_up(publisher, self._record(message.pool), now):
            self._tell(message.pool)
        return not publisher.ahead

    def forget(self, pool: str) -> None:
        """Drop a pool that is no more."""
        if self._pools.pop(pool, None) is not None:
            for key in [key for key in self._publishers if key[0] == pool]:
                del self._publishers[key]
            self._tell(pool)

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

    def _publisher(self, pool: str, envelope: Envelope) -> tuple[_Publisher, tuple[int, int]]:
        key = (pool, envelope.publisher)
        found = self._publishers.setdefault(key, _Publisher())
        self._publishers.move_to_end(key)
        if len(self._publishers) > self._most_publishers:
            self._publishers.popitem(last=False)
        return found, (envelope.epoch, envelope.sequence)

    def _catch_up(self, publisher: _Publisher, record: PoolRecord, now: float) -> bool:
        """Apply the waiting deltas that follow without a gap; returns whether there were any."""
        epoch, sequence = publisher.state_at or (0, 0)
        applied = False
        while following := publisher.ahead.pop((epoch, sequence + 1), None):
            delta, arrived_at = following
            sequence += 1
            _apply(record, delta, arrived_at)
            self._settle(record, delta.envelope, now)
            applied = True
        publisher.state_at = (epoch, sequence)
        for passed in [at for at in publisher.ahead if at <= publisher.state_at]:
            del publisher.ahead[passed]
        return applied

    def _settle(self, record: PoolRecord, envelope: Envelope, now: float) -> None:
        record.version += 1
        record.publisher, record.sequence = envelope.publisher, envelope.sequence
        record.heard_at = now

    def _tell(self, pool: str) -> None:
        for listener in tuple(self._listeners):
            listener(pool)


def _members(endpoints: dict[str, Endpoint]) -> list[Endpoint]:
    """The endpoints without what changes all the time, in their order."""
    return [endpoint.measured(_NO_METRICS) for endpoint in endpoints.values()]


def _apply(record: PoolRecord, delta: pool_pb2.PoolDelta, now: float) -> None:
    if delta.upserted or delta.removed:
        record.membership_version += 1
    for item in delta.upserted:
        record.endpoints[item.uid] = decode_endpoint(item, now)
    for uid in delta.removed:
        record.endpoints.pop(uid, None)
    for update in delta.metrics:
        known = record.endpoints.get(update.uid)
        if known is not None:
            metrics = decode_metrics(update.metrics, now)
            record.endpoints[update.uid] = known.measured(metrics)
    if delta.HasField("regime"):
        record.regime = delta.regime
