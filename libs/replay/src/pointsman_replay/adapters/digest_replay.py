"""The datalayer's digests in virtual time: production code judges the pool that a trace loads.

Requests go to the replica with the fewest in flight. The pool can follow the recommendation, as an
autoscaler would that looks each 15 s: new replicas serve after `startup_s`, and those given up get
no more requests.
"""

from random import Random

import msgspec

from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.in_flight import Lease, LeaseTable
from pointsman_common.inference_pool import InferencePool
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_metrics import Extraction
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.pool_demand import DemandBook
from pointsman_datalayer.core.pool_digest import DigestLimits, PoolDigests
from pointsman_datalayer.core.replica_recommendation import ReplicaLimits
from pointsman_datalayer.core.scarcity_regime import scarcity_name
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_replay.core.digest_report import DigestPoint, DigestRun
from pointsman_replay.core.measures import ServiceLevel, measure
from pointsman_replay.core.policies.policy import Surroundings, lowest
from pointsman_replay.core.replay_run import Progress, ReplayRun
from pointsman_replay.core.trace import Trace, TraceRequest, fitting, scaled_to_span, spread
from pointsman_replay.core.trace_copies import copies_for, overlaid
from pointsman_replay.core.virtual_pool import ScrapeTiming
from pointsman_simulator.core.engine_profile import EngineProfile

POOL = "replay/pool"
EDGE = "ext-proc/replay"
TICK_S = 1.0
SYNC_S = 15.0
"""Between two looks of the autoscaler (Kubernetes' default)."""


class DigestConditions(msgspec.Struct, frozen=True, kw_only=True):
    engine: EngineProfile
    most_replicas: int = 16
    load: float = 0.5
    """Mean share of `most_replicas` that the trace keeps busy: sets the number of copies."""
    follow: bool = True
    """Whether the pool has what is recommended; else it has `most_replicas`."""
    startup_s: float = 30.0
    seed: int = 1
    level: ServiceLevel = ServiceLevel()


def replay_digest(
    raw: Trace, conditions: DigestConditions, progress: Progress | None = None
) -> DigestRun:
    """Run a trace; the same arguments give the same points.

    Raises:
        ReplayError: no request of the trace fits into an engine.
    """
    seed, engine = conditions.seed, conditions.engine
    trace = fitting(spread(raw, Random(f"{seed}/spread/{raw.name}")), engine.kv_tokens)
    trace = scaled_to_span(trace, trace.span_s)
    copies = copies_for(trace, engine, engines=conditions.load * conditions.most_replicas)
    trace = overlaid(trace, copies, Random(f"{seed}/copies/{raw.name}"))
    built: list[DigestedPool] = []

    def build(surroundings: Surroundings) -> DigestedPool:
        built.append(DigestedPool(surroundings, conditions))
        return built[0]

    run = ReplayRun(
        trace,
        engine,
        conditions.most_replicas,
        build,
        seed=f"{seed}/{raw.name}/digest",
        scrapes=ScrapeTiming(TICK_S / 2),
    )
    result = run.run(progress)
    last_s = trace.requests[-1].at_s
    return DigestRun(
        trace=trace.name,
        notes=trace.notes,
        engine=engine.name,
        requests=len(trace.requests),
        most_replicas=conditions.most_replicas,
        follows=conditions.follow,
        target_utilization=built[0].limits.replicas.target_utilization,
        points=tuple(point for point in built[0].points if point.at_s <= last_s),
        ttft_s=measure(result, conditions.level).ttft_s,
    )


class DigestedPool:
    """A policy that feeds the datalayer's registry, leases and demand as its parts do."""

    def __init__(self, surroundings: Surroundings, conditions: DigestConditions) -> None:
        self._timeline, self._pool = surroundings.timeline, surroundings.pool
        self._rng, self._conditions = surroundings.rng, conditions
        self._in_flight = [0.0] * surroundings.replicas
        self._leases, self._demand = LeaseTable(), DemandBook()
        self._arrived: dict[int, float] = {}
        self._registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        self.limits = DigestLimits(
            stale_after_s=2.0 + TICK_S,
            rise_s=1.0,
            fall_s=5.0,
            replicas=ReplicaLimits(
                max_replicas=conditions.most_replicas, ttft_slo_s=conditions.level.ttft_s
            ),
        )
        self._digests = PoolDigests(
            self._registry,
            self._leases.in_flight,
            self.limits,
            demand=self._demand,
            leases=self._leases.leases,
        )
        most = conditions.most_replicas
        self._ready = max(1, most // 2) if conditions.follow else most
        self._target = self._ready
        self._synced_at = 0.0
        self._requests, self._work = 0, 0.0
        self.points: list[DigestPoint] = []
        self._pool.scrape()
        self._discover()
        self._timeline.at(0.0, self._tick)

    def pick(self, number: int, request: TraceRequest) -> int:
        now = self._timeline.now
        row = lowest(self._in_flight[: self._ready], self._rng)
        self._in_flight[row] += 1
        self._arrived[number] = now
        lease = Lease(
            lease_id=str(number),
            edge=EDGE,
            pool=POOL,
            endpoint=_uid(row),
            prompt_tokens=request.prompt_tokens,
            prefill_tokens=request.prompt_tokens,
            model=POOL,
        )
        self._leases.open(lease, now)
        ahead = self._leases.load(_uid(row)).prefill_tokens
        self._demand.picked(lease, ahead_tokens=ahead, now=now)
        profile = self._pool.profile
        self._requests += 1
        self._work += profile.token_s * request.prompt_tokens + request.output_tokens * (
            profile.decode_s + profile.context_s * request.prompt_tokens
        )
        return row

    def first_token(self, number: int, request: TraceRequest, row: int) -> None:
        del request, row
        self._leases.serve(str(number))
        self._demand.first_token(str(number), self._timeline.now - self._arrived[number])

    def finished(self, number: int, request: TraceRequest, row: int) -> None:
        self._in_flight[row] -= 1
        del self._arrived[number]
        self._demand.finished(
            str(number),
            prompt_tokens=request.prompt_tokens,
            cached_tokens=None,
            output_tokens=request.output_tokens,
            now=self._timeline.now,
        )
        self._leases.finish(str(number))

    def close(self) -> None:
        """Nothing is held."""

    def _tick(self) -> None:
        now = self._timeline.now
        self._scrape()
        self._digests.update(now)
        regime = self._digests.regime(POOL)
        asked = regime.recommended_replicas if regime.HasField("recommended_replicas") else None
        self.points.append(
            DigestPoint(
                at_s=now,
                requests_per_s=self._requests / TICK_S,
                work=self._work / TICK_S,
                ready=self._ready,
                recommended=asked,
                regime=scarcity_name(regime.scarcity),
                reason=regime.reason,
                utilization=regime.utilization if regime.HasField("utilization") else None,
                saturation=regime.saturation,
                predicted_ttft_s=(
                    regime.predicted_ttft_s if regime.HasField("predicted_ttft_s") else None
                ),
            )
        )
        self._requests, self._work = 0, 0.0
        if asked is not None and self._conditions.follow and now - self._synced_at >= SYNC_S:
            self._synced_at = now
            self._scale(asked)
        self._timeline.at(now + TICK_S, self._tick)

    def _scrape(self) -> None:
        for row in range(self._ready):
            report = self._pool.report(row)
            metrics = EndpointMetrics(
                waiting_requests=report.stats.waiting,
                running_requests=report.stats.running,
                kv_cache_utilization=report.stats.kv_usage,
                read_at=report.scraped_at,
            )
            self._registry.record_scrape(_uid(row), Extraction(metrics, ()))

    def _scale(self, replicas: int) -> None:
        if replicas > self._target:
            self._timeline.at(
                self._timeline.now + self._conditions.startup_s, self._started, replicas
            )
        elif replicas < self._ready:
            self._ready = replicas
            self._discover()
        self._target = replicas

    def _started(self, replicas: int) -> None:
        # Some of those that were on their way may not be wanted any more.
        self._ready = max(self._ready, min(replicas, self._target))
        self._discover()
        self._scrape()

    def _discover(self) -> None:
        endpoints = tuple(
            DiscoveredEndpoint(_uid(row), _uid(row), f"10.0.0.{row}:8000", {}, "vllm")
            for row in range(self._ready)
        )
        config = InferencePool(name=POOL, hash="replay", served_models=frozenset({POOL}))
        self._registry.discover({POOL: DiscoveredPool(config, endpoints)})


def _uid(row: int) -> str:
    return f"engine-{row}"
