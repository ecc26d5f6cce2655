"""How scarce the capacity of a pool is, in one word, with hysteresis and the reason.

    idle        no work at all
    abundant    saturation below 0.5
    tight       from 0.5
    scarce      from 0.8
    saturated   from 1.0, or no endpoint is ready

Saturation is the mean over the ready endpoints of max(waiting / 5, kv / 0.8); an endpoint whose
metrics are stale or missing counts 1.0 (source: llm-d-router's utilization-detector). A regime is
left upwards when the next one has held for `rise_s`, and downwards when saturation has been at
least 0.05 under its threshold for `fall_s`; at once when the first endpoint becomes ready.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pointsman_common.contracts.pool_pb2 import Regime, Scarcity
from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_datalayer.core.staleness import NOT_SCRAPED, is_stale

QUEUE_LIMIT = 5
KV_CACHE_LIMIT = 0.8
MARGIN = 0.05

_LOWER_BOUND: Mapping[Scarcity, float] = {
    Scarcity.SCARCITY_TIGHT: 0.5,
    Scarcity.SCARCITY_SCARCE: 0.8,
    Scarcity.SCARCITY_SATURATED: 1.0,
}


def scarcity_name(scarcity: Scarcity) -> str:
    """`idle`, `abundant`, … as metrics and people see it; `unknown` before the first metrics."""
    if scarcity == Scarcity.SCARCITY_UNSPECIFIED:
        return "unknown"
    return Scarcity.Name(scarcity).removeprefix("SCARCITY_").lower()


def endpoint_saturation(metrics: EndpointMetrics) -> float:
    """max(waiting / 5, kv / 0.8); 1.0 where the engine reports one of them not at all."""
    waiting, kv_cache = metrics.waiting_requests, metrics.kv_cache_utilization
    if waiting is None:
        return 1.0
    return max(waiting / QUEUE_LIMIT, (kv_cache or 0.0) / KV_CACHE_LIMIT)


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """Sums over the ready endpoints of a pool."""

    ready: int
    untried: int
    """Not ready, only because their engines have not been asked yet."""
    stale: int
    never_read: int
    saturation: float
    waiting: int
    running: int
    in_flight: int
    """Leases; they tell of work before the engines do."""
    mean_kv_cache: float


def measure_load(
    endpoints: Iterable[Endpoint], *, in_flight: int, now: float, stale_after_s: float
) -> PoolLoad:
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


class ScarcityRegime:
    """The regime of one pool over time."""

    def __init__(self, *, rise_s: float = 1.0, fall_s: float = 5.0) -> None:
        self._rise_s, self._fall_s = rise_s, fall_s
        self._current = Scarcity.SCARCITY_UNSPECIFIED
        self._since = 0.0
        self._other_since: float | None = None
        self._rising = False
        self._had_none = False

    def update(self, load: PoolLoad, now: float) -> Regime:
        """Judge a load; `now` in monotonic seconds."""
        wanted = self._wanted(load)
        if wanted == self._current:
            self._other_since = None
        elif self._current == Scarcity.SCARCITY_UNSPECIFIED or self._had_none:
            self._enter(wanted, now)
        else:
            rising = wanted > self._current
            if self._other_since is None or rising != self._rising:
                self._other_since, self._rising = now, rising
            if now - self._other_since >= (self._rise_s if rising else self._fall_s):
                self._enter(wanted, now)
        self._had_none = not load.ready
        return Regime(
            scarcity=self._current,
            reason=_reason(load),
            saturation=load.saturation,
            ready_endpoints=load.ready,
            stale_endpoints=load.stale,
            waiting_requests=load.waiting,
            running_requests=load.running,
            mean_kv_cache_utilization=load.mean_kv_cache,
            since_s=max(0.0, now - self._since) if self._current else 0.0,
        )

    def _wanted(self, load: PoolLoad) -> Scarcity:
        if load.never_read == load.ready and (load.ready or load.untried):
            return self._current
        if not load.ready:
            return Scarcity.SCARCITY_SATURATED
        fresh = load.stale == 0
        if fresh and not (load.waiting or load.running or load.in_flight):
            return Scarcity.SCARCITY_IDLE
        wanted = Scarcity.SCARCITY_ABUNDANT
        for scarcity, bound in _LOWER_BOUND.items():
            held = scarcity <= self._current  # to leave it, saturation must be clearly below
            if load.saturation >= bound - (MARGIN if held else 0.0):
                wanted = scarcity
        return wanted

    def _enter(self, scarcity: Scarcity, now: float) -> None:
        self._current, self._since, self._other_since = scarcity, now, None


def _reason(load: PoolLoad) -> str:
    if not load.ready:
        return "no endpoint was scraped yet" if load.untried else "no endpoint is ready"
    if load.never_read == load.ready:
        return f"no metrics from the {load.ready} ready endpoints yet"
    parts = [
        f"saturation {load.saturation:.0%} over {load.ready} ready endpoints",
        f"{load.waiting} waiting",
        f"{load.running} running",
        f"{load.in_flight} in flight",
        f"KV cache {load.mean_kv_cache:.0%} full",
    ]
    if load.stale:
        parts.append(f"{load.stale} with stale metrics, counted as full")
    return ", ".join(parts)
