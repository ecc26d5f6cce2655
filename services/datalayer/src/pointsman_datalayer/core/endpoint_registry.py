"""Endpoints by pool: what discovery says of them and what their engines report.

One owner: discovery and the scraper tell it what they saw, the publisher and the REST API read.
An endpoint that several pools select is scraped once and has one set of metrics.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_common.inference_pool import InferencePool
from pointsman_datalayer.core.engine_metrics import Extraction
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.staleness import Health, ReadinessLimits

REPORT_SLACK_S = 0.25
"""By how much a report may seem older than it is: ages are in milliseconds, and messages travel."""

_NOTHING: Mapping[str, float] = {}

MAX_GONE = 100
"""Pools without a manifest that are still told of; the first to go are forgotten first."""


@dataclass(slots=True)
class EngineState:
    """What is known of the engine behind one uid."""

    metrics: EndpointMetrics = field(default_factory=EndpointMetrics)
    """As told: `own`, and what further sources say."""
    health: Health = field(default_factory=Health)
    epoch: int = 0
    started_at: float | None = None
    counters: Mapping[str, float] = field(default_factory=dict[str, float])
    attributes: dict[str, Mapping[str, float]] = field(
        default_factory=dict[str, Mapping[str, float]]
    )
    """What further sources say of the endpoint, by their names."""
    own: EndpointMetrics = field(default_factory=EndpointMetrics)
    """As the engine reported them."""

    def with_attributes(self, metrics: EndpointMetrics) -> EndpointMetrics:
        """Metrics with what the further sources say; a later source wins."""
        if not self.attributes:
            return metrics
        merged = dict(metrics.attributes)
        for attributes in self.attributes.values():
            merged |= attributes
        return replace(metrics, attributes=merged)


@dataclass(slots=True)
class PoolState:
    config: InferencePool
    discovered: Mapping[str, DiscoveredEndpoint] = field(
        default_factory=dict[str, DiscoveredEndpoint]
    )
    restored: bool = False
    """From the last state in the store: discovery has not spoken yet."""
    gone: bool = False
    """No manifest describes it any more: it is told of, without endpoints, so that its readers
    learn so."""


class EndpointRegistry:
    def __init__(self, limits: ReadinessLimits) -> None:
        self._limits = limits
        self._pools: dict[str, PoolState] = {}
        self._engines: dict[str, EngineState] = {}
        self._built: dict[tuple[str, str], Endpoint] = {}
        self._listeners: list[Callable[[], None]] = []
        self.discovered = False
        """Whether discovery has spoken, or a last state was restored."""

    def on_membership_change(self, listener: Callable[[], None]) -> None:
        """Have a listener called after endpoints came, went, or became ready or not."""
        self._listeners.append(listener)

    def pools(self) -> Mapping[str, PoolState]:
        return self._pools

    def endpoints(self, pool: str) -> Iterator[Endpoint]:
        """The endpoints of a pool as they are now, in the order of discovery.

        An endpoint that has not changed is the very same object as before.
        """
        state = self._pools.get(pool)
        return (
            (self._endpoint(pool, item) for item in state.discovered.values())
            if state
            else iter(())
        )

    def addresses(self) -> Mapping[str, DiscoveredEndpoint]:
        """Every endpoint of every pool, by uid."""
        return {
            uid: item for state in self._pools.values() for uid, item in state.discovered.items()
        }

    def health(self, uid: str) -> Health:
        engine = self._engines.get(uid)
        return engine.health if engine else Health()

    def read_at(self, uid: str) -> float:
        """When its metrics were read, in monotonic seconds; endlessly long ago: never."""
        engine = self._engines.get(uid)
        read_at = engine.metrics.read_at if engine else None
        return float("-inf") if read_at is None else read_at

    def epoch(self, uid: str) -> int:
        """Times that the engine was seen to restart."""
        engine = self._engines.get(uid)
        return engine.epoch if engine else 0

    def pools_of(self, uid: str) -> Iterable[str]:
        return [name for name, state in self._pools.items() if uid in state.discovered]

    def discover(self, pools: Mapping[str, DiscoveredPool]) -> None:
        """Take over all that discovery knows.

        While it knows no pool, what was restored stays.
        """
        self.discovered = True
        if not pools and all(state.restored for state in self._pools.values()):
            return
        for name, pool in pools.items():
            self._take_over(name, pool)
        for name, state in self._pools.items():
            if name not in pools and not state.gone:
                state.gone, state.restored, state.discovered = True, False, {}
        gone = [name for name, state in self._pools.items() if state.gone]
        for name in gone[: max(0, len(gone) - MAX_GONE)]:
            del self._pools[name]
        self._forget_engines()
        self._built.clear()
        self._tell()

    def restore(self, config: InferencePool, endpoints: Iterable[Endpoint]) -> None:
        """Take over the last state of a pool, as far as nothing newer is known.

        The endpoints' `metrics.read_at` is in our monotonic seconds.
        """
        endpoints = list(endpoints)
        state = self._pools.get(config.name)
        if state is None and not any(not known.restored for known in self._pools.values()):
            self._pools[config.name] = state = PoolState(
                config, {item.uid: _as_discovered(item) for item in endpoints}, restored=True
            )
            self.discovered = True
        if state is None:
            return
        for item in endpoints:
            if item.uid in state.discovered and item.uid not in self._engines:
                reason = "" if item.ready else item.not_ready_reason
                self._engines[item.uid] = EngineState(
                    item.metrics, Health(ready=item.ready, reason=reason), item.epoch
                )
        self._built.clear()
        self._tell()

    def record_scrape(self, uid: str, extraction: Extraction) -> None:
        """The engine has reported; the registry notices when it was restarted in between."""
        engine = self._engine(uid)
        if engine is None:
            return
        restarted = _restarted(engine, extraction)
        if restarted:
            engine.epoch += 1
        if extraction.started_at is not None:
            # Several processes may answer behind one port: the latest start counts, once.
            engine.started_at = max(extraction.started_at, engine.started_at or 0.0)
        engine.counters = extraction.counters
        engine.own, engine.metrics = extraction.metrics, engine.with_attributes(extraction.metrics)
        self._rebuild(uid)
        problem = f"lacks {', '.join(extraction.missing)}" if extraction.missing else ""
        self._set_health(uid, engine, engine.health.answered(problem), changed=restarted)

    def record_attributes(self, uid: str, source: str, attributes: Mapping[str, float]) -> None:
        """A further source has read the endpoint; without attributes it knows nothing of it."""
        engine = self._engine(uid)
        if engine is None or engine.attributes.get(source, _NOTHING) == attributes:
            return
        if attributes:
            engine.attributes[source] = attributes
        else:
            del engine.attributes[source]
        engine.metrics = engine.with_attributes(engine.own)
        self._rebuild(uid)

    def record_nonsense(self, uid: str, problem: str) -> None:
        """The engine answered what could not be read: its metrics stay and grow old."""
        engine = self._engine(uid)
        if engine is not None:
            self._set_health(uid, engine, engine.health.answered(problem))

    def record_unreachable(self, uid: str, problem: str, now: float) -> None:
        """The engine could not be connected to, or did not answer in time."""
        engine = self._engine(uid)
        if engine is not None:
            health = engine.health.unreachable(problem, now, self._limits)
            self._set_health(uid, engine, health)

    def record_report(
        self, uid: str, metrics: EndpointMetrics, *, ready: bool, reason: str, epoch: int
    ) -> None:
        """Another replica has read the engine; what is older than what is known is left out.

        `metrics.read_at` is in our monotonic seconds.
        """
        engine = self._engine(uid)
        if engine is None:
            return
        known_at = engine.metrics.read_at
        if known_at is not None and (metrics.read_at or 0.0) < known_at - REPORT_SLACK_S:
            return
        restarted = epoch > engine.epoch
        engine.own = engine.metrics = metrics
        engine.attributes.clear()  # the other replica's are in the report
        engine.epoch = max(engine.epoch, epoch)
        self._rebuild(uid)
        self._set_health(uid, engine, Health(ready=ready, reason=reason), changed=restarted)

    def _set_health(
        self, uid: str, engine: EngineState, health: Health, *, changed: bool = False
    ) -> None:
        before, engine.health = engine.health, health
        if changed or (before.ready, before.reason) != (health.ready, health.reason):
            self._rebuild(uid)
            self._tell()

    def _rebuild(self, uid: str) -> None:
        for name in self._pools:
            self._built.pop((name, uid), None)

    def _take_over(self, name: str, pool: DiscoveredPool) -> None:
        found = {item.uid: item for item in pool.endpoints}
        state = self._pools.get(name)
        if state is None:
            self._pools[name] = PoolState(pool.config, found)
            return
        state.config, state.discovered = pool.config, found
        state.restored = state.gone = False

    def _engine(self, uid: str) -> EngineState | None:
        """The state to write to; `None` when the endpoint went away during its scrape."""
        if not any(uid in state.discovered for state in self._pools.values()):
            return None
        return self._engines.setdefault(uid, EngineState())

    def _forget_engines(self) -> None:
        kept = self.addresses()
        for uid in list(self._engines):
            if uid not in kept:
                del self._engines[uid]

    def _endpoint(self, pool: str, item: DiscoveredEndpoint) -> Endpoint:
        built = self._built.get((pool, item.uid))
        if built is None:
            built = self._built[pool, item.uid] = self._build(item)
        return built

    def _build(self, item: DiscoveredEndpoint) -> Endpoint:
        engine = self._engines.get(item.uid) or EngineState()
        health = engine.health
        reason = item.problem or health.reason
        return Endpoint(
            uid=item.uid,
            name=item.name,
            address=item.address,
            labels=item.labels,
            ready=not reason and health.ready,
            not_ready_reason=reason,
            engine=item.engine,
            rank=item.rank,
            epoch=engine.epoch,
            metrics=engine.metrics,
        )

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _restarted(engine: EngineState, extraction: Extraction) -> bool:
    """A later start of the process, or a counter that went down."""
    known, now = engine.started_at, extraction.started_at
    if known is not None and now is not None:
        return now > known + 0.5  # the value is written with nine digits or so
    return any(
        value < engine.counters.get(name, 0.0) for name, value in extraction.counters.items()
    )


def _as_discovered(endpoint: Endpoint) -> DiscoveredEndpoint:
    return DiscoveredEndpoint(
        uid=endpoint.uid,
        name=endpoint.name,
        address=endpoint.address,
        labels=endpoint.labels,
        engine=endpoint.engine,
        rank=endpoint.rank,
    )
