"""How much work there is against what can be done: of a pool, or of what one model can use of it.

Saturation is what the engines report, utilization and the time to first token are predicted from
the requests; see pool_demand.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_datalayer.core.pool_demand import Demand, OpenWork
from pointsman_datalayer.core.staleness import NOT_SCRAPED, is_stale

QUEUE_LIMIT = 5
KV_CACHE_LIMIT = 0.8

ALMOST_FULL = 0.99
"""What a predicted utilization counts at most: that a pool is full, its queues must show."""


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """Sums over the ready endpoints of a pool."""

    ready: int
    untried: int
    """Not ready, only because their engines have not been asked yet."""
    stale: int
    never_read: int
    saturation: float
    """Mean of max(waiting / 5, kv / 0.8); an endpoint with stale or no metrics counts 1.0."""
    waiting: int
    running: int
    in_flight: int
    """Leases; they tell of work before the engines do."""
    mean_kv_cache: float
    queued: int = 0
    """With the flow controllers."""
    utilization: float | None = None
    """Engine time asked for, over that of the ready endpoints. `None`: not known."""
    predicted_ttft_s: float | None = None
    """Of a request that came now, on average. `None`: not known."""
    own_ttft_s: float = 0.0
    """The part of it that no replica takes away."""
    ttft_slo_s: float = 0.0
    """What it should stay within; 0: nothing is asked for."""
    requests_per_s: float = 0.0
    idle_s: float = 0.0
    scale_to_zero: bool = False
    """Idle for as long as it takes to do without any replica."""

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running or self.in_flight or self.queued)

    @property
    def pressure(self) -> float:
        """The worst of what is known, 1.0 being full."""
        return max(self.saturation, min(self.utilization or 0.0, ALMOST_FULL), self.ttft_share)

    @property
    def ttft_share(self) -> float:
        """The predicted time to first token over the one asked for; 0: not known or not asked."""
        if self.predicted_ttft_s is None or not self.ttft_slo_s:
            return 0.0
        return self.predicted_ttft_s / self.ttft_slo_s


def endpoint_saturation(metrics: EndpointMetrics) -> float:
    """max(waiting / 5, kv / 0.8); 1.0 where the engine reports one of them not at all.

    Source: llm-d-router's utilization-detector.
    """
    waiting, kv_cache = metrics.waiting_requests, metrics.kv_cache_utilization
    if waiting is None:
        return 1.0
    return max(waiting / QUEUE_LIMIT, (kv_cache or 0.0) / KV_CACHE_LIMIT)


def measure_load(
    endpoints: Iterable[Endpoint], *, in_flight: int, now: float, stale_after_s: float
) -> PoolLoad:
    """What the engines report, and how old it is; `now` in monotonic seconds."""
    known = list(endpoints)
    ready = [endpoint for endpoint in known if endpoint.ready]
    stale = [is_stale(endpoint.metrics.read_at, now, stale_after_s) for endpoint in ready]
    parts = [
        1.0 if old else endpoint_saturation(endpoint.metrics)
        for endpoint, old in zip(ready, stale, strict=True)
    ]
    kv_cache = [
        endpoint.metrics.kv_cache_utilization
        for endpoint in ready
        if endpoint.metrics.kv_cache_utilization is not None
    ]
    return PoolLoad(
        ready=len(ready),
        untried=sum(endpoint.not_ready_reason == NOT_SCRAPED for endpoint in known),
        stale=sum(stale),
        never_read=sum(endpoint.metrics.read_at is None for endpoint in ready),
        saturation=sum(parts) / len(parts) if parts else 1.0,
        waiting=sum(endpoint.metrics.waiting_requests or 0 for endpoint in ready),
        running=sum(endpoint.metrics.running_requests or 0 for endpoint in ready),
        in_flight=in_flight,
        mean_kv_cache=sum(kv_cache) / len(kv_cache) if kv_cache else 0.0,
    )


def with_demand(
    load: PoolLoad, demand: Demand, work: OpenWork, *, queued: int, ttft_slo_s: float
) -> PoolLoad:
    """Add what is predicted from the requests."""
    utilization = ttft_s = None
    if load.ready and demand.work_per_s is not None:
        utilization = demand.work_per_s / load.ready
    if load.ready and demand.prefill_token_s is not None and demand.own_ttft_s is not None:
        ahead = work.prefill_tokens + queued * demand.mean_prefill_tokens
        ttft_s = demand.own_ttft_s + demand.prefill_token_s * ahead / load.ready
    return replace(
        load,
        queued=queued,
        utilization=utilization,
        predicted_ttft_s=ttft_s,
        own_ttft_s=demand.own_ttft_s or 0.0,
        ttft_slo_s=ttft_slo_s,
        requests_per_s=demand.requests_per_s,
    )
