"""How scarce the capacity of a pool is, in one word, with hysteresis and the reason.

    idle        no work at all
    abundant    pressure below 0.5
    tight       from 0.5
    scarce      from 0.8
    saturated   from 1.0, or no endpoint is ready

Pressure is the worst of the saturation that the engines report, the predicted utilization (0.99 at
most) and the predicted time to first token over the one asked for. A regime is left upwards when
the next one has held for `rise_s`, and downwards when pressure has been at least 0.05 under its
threshold for `fall_s`; at once when the first endpoint becomes ready.
"""

from collections.abc import Mapping

from pointsman_common.contracts.pool_pb2 import Regime, Scarcity
from pointsman_datalayer.core.pool_load import PoolLoad

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


class ScarcityRegime:
    """The regime of one pool, or of one model, over time. Times are monotonic seconds."""

    def __init__(self, *, rise_s: float = 1.0, fall_s: float = 5.0) -> None:
        self._rise_s, self._fall_s = rise_s, fall_s
        self.current = Scarcity.SCARCITY_UNSPECIFIED
        self._since = 0.0
        self._other_since: float | None = None
        self._rising = False
        self._had_none = False

    def judge(self, load: PoolLoad, now: float) -> Scarcity:
        """Take note of a load; returns the regime that is in force."""
        wanted = self._wanted(load)
        if wanted == self.current:
            self._other_since = None
        elif self.current == Scarcity.SCARCITY_UNSPECIFIED or self._had_none:
            self._enter(wanted, now)
        else:
            rising = wanted > self.current
            if self._other_since is None or rising != self._rising:
                self._other_since, self._rising = now, rising
            if now - self._other_since >= (self._rise_s if rising else self._fall_s):
                self._enter(wanted, now)
        self._had_none = not load.ready
        return self.current

    def since_s(self, now: float) -> float:
        """How long it has been in force; 0: none is."""
        return max(0.0, now - self._since) if self.current else 0.0

    def update(self, load: PoolLoad, now: float) -> Regime:
        """Judge the load of a pool, and say all of it but the recommendation and the models."""
        scarcity = self.judge(load, now)
        regime = Regime(
            scarcity=scarcity,
            reason=reason_of(load),
            saturation=load.saturation,
            ready_endpoints=load.ready,
            stale_endpoints=load.stale,
            waiting_requests=load.waiting,
            running_requests=load.running,
            mean_kv_cache_utilization=load.mean_kv_cache,
            since_s=self.since_s(now),
            requests_per_s=load.requests_per_s,
            queued_requests=load.queued,
            idle_s=load.idle_s,
            scale_to_zero=load.scale_to_zero,
        )
        if load.utilization is not None:
            regime.utilization = load.utilization
        if load.predicted_ttft_s is not None:
            regime.predicted_ttft_s = load.predicted_ttft_s
        return regime

    def _wanted(self, load: PoolLoad) -> Scarcity:
        if load.never_read == load.ready and (load.ready or load.untried):
            return self.current
        if not load.ready:
            return Scarcity.SCARCITY_SATURATED
        if load.stale == 0 and not load.busy:
            return Scarcity.SCARCITY_IDLE
        wanted = Scarcity.SCARCITY_ABUNDANT
        for scarcity, bound in _LOWER_BOUND.items():
            held = scarcity <= self.current  # to leave it, pressure must be clearly below
            if load.pressure >= bound - (MARGIN if held else 0.0):
                wanted = scarcity
        return wanted

    def _enter(self, scarcity: Scarcity, now: float) -> None:
        self.current, self._since, self._other_since = scarcity, now, None


def reason_of(load: PoolLoad) -> str:
    """What the regime of a pool is judged by, in words, the decisive part first."""
    if not load.ready:
        waits = f", {load.queued} queued" if load.queued else ""
        return ("no endpoint was scraped yet" if load.untried else "no endpoint is ready") + waits
    if load.never_read == load.ready:
        return f"no metrics from the {load.ready} ready endpoints yet"
    parts = [f"saturation {load.saturation:.0%} over {load.ready} ready endpoints"]
    if load.utilization is not None:
        told = f"utilization {load.utilization:.0%}"
        parts.insert(0 if load.utilization > load.saturation else 1, told)
    if load.predicted_ttft_s is not None:
        asked = f" of {load.ttft_slo_s:g} s" if load.ttft_slo_s else ""
        told = f"first token after {load.predicted_ttft_s:.2f} s{asked}"
        decides = load.ttft_share > max(load.saturation, load.utilization or 0.0)
        parts.insert(0 if decides else len(parts), told)
    if load.queued:
        parts.append(f"{load.queued} queued")
    parts += [
        f"{load.waiting} waiting",
        f"{load.running} running",
        f"{load.in_flight} in flight",
        f"KV cache {load.mean_kv_cache:.0%} full",
    ]
    if load.stale:
        parts.append(f"{load.stale} with stale metrics, counted as full")
    return ", ".join(parts)
