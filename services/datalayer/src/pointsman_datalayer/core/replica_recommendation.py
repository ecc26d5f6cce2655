"""How many replicas the load of a pool asks for.

    the most of   ready × saturation / target_saturation       what the engines report
                  ready × utilization / target_utilization     the engine time that is asked for
                  work ahead / (SLO − own)                     the time to first token, predicted

where `work ahead` is engine time that a new request waits for, all endpoints together, and `own`
the part of its first token that no replica takes away; `SLO − own` is a tenth of the SLO at least.
An observation asks for no more than max(2 × ready, ready + 4): so few engines cannot tell of more
(source: the scale-up policies that Kubernetes' HorizontalPodAutoscaler has by default).

The recommendation rises to the lowest number asked for during the last `up_s`, and falls to the
highest during the last `down_s` (its stabilisation windows). To fall, the load must fit with 30 %
to spare, so that the next wave finds room. After a rise there is no fall for `down_s`. It stays
within [min_replicas, max_replicas], and a higher load never lowers it. One replica is kept whatever
the bounds, unless the load says `scale_to_zero`. There is no recommendation before `up_s` of good
observations, and the replicas that were ready by then count as asked for: who has just begun to
look does not take them away.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from pointsman_datalayer.core.pool_load import PoolLoad

SAMPLE_S = 1.0
"""Shortest time between two remembered observations; bounds the memory."""

FALL_SHARE = 0.7
"""Part of the target that the load must fit into before replicas are taken away. With 0.9 falls
were followed by rises within five minutes on a production trace, for 3 to 10 % fewer replicas."""

LEAST_SLO_SHARE = 0.1
MOST_STALE_SHARE = 1 / 3
"""With more of the endpoints out of sight an observation says nothing."""


@dataclass(frozen=True, slots=True)
class ReplicaLimits:
    target_saturation: float = 0.7
    min_replicas: int = 1
    max_replicas: int = 0
    """0: no limit."""
    up_s: float = 15.0
    down_s: float = 300.0
    target_utilization: float = 0.7
    ttft_slo_s: float = 2.0
    """0: not looked at."""

    def bounded(self, replicas: int) -> int:
        return max(self.min_replicas, min(replicas, self.max_replicas or replicas))


def wanted_replicas(load: PoolLoad, limits: ReplicaLimits, *, share: float = 1.0) -> int:
    """Replicas at which this load would take up that share of the targets."""
    asked = max(asked for asked, _ in _asks(load, limits))
    # Saturation is a mean of sums such as 0.1 × 7: a hair above a whole number is that number.
    wanted = math.ceil(asked / share - 1e-9)
    most = max(2 * load.ready, load.ready + 4)
    return limits.bounded(max(0 if load.scale_to_zero else 1, min(wanted, most)))


@dataclass(slots=True)
class ReplicaRecommendation:
    """The recommendation for one pool over time. Times are monotonic seconds."""

    limits: ReplicaLimits
    reason: str = ""
    _seen: deque[tuple[float, int, int]] = field(default_factory=deque[tuple[float, int, int]])
    """When, and how many were asked for to rise, and to fall."""
    _first_at: float | None = None
    _current: int | None = None

    def update(self, load: PoolLoad, now: float) -> int | None:
        """The recommendation; `None` while there is not enough to go by.

        An observation without ready endpoints, or with many stale ones, says nothing and is left
        out: what is not seen must not scale a pool. But work that nobody can do asks for a replica.
        """
        if load.scale_to_zero and not self.limits.min_replicas:
            self._current, self.reason = 0, f"idle for {load.idle_s:.0f} s"
            return 0
        if not self._current and load.busy and (not load.ready or self._current == 0):
            self._current = self.limits.bounded(1)
            self.reason = f"no replica, and {load.queued + load.in_flight} requests"
        if not load.ready or load.stale > MOST_STALE_SHARE * load.ready:
            return self._current
        if self._seen and now - self._seen[-1][0] < SAMPLE_S:
            return self._current
        self._first_at = now if self._first_at is None else self._first_at
        wanted = wanted_replicas(load, self.limits)
        to_fall = wanted_replicas(load, self.limits, share=FALL_SHARE)
        if now - self._first_at <= self.limits.up_s:
            to_fall = max(to_fall, self.limits.bounded(load.ready))
        self._seen.append((now, wanted, to_fall))
        while now - self._seen[0][0] > self.limits.down_s:
            self._seen.popleft()
        if now - self._first_at < self.limits.up_s:
            return self._current
        lowest = min(rise for at, rise, _ in self._seen if now - at <= self.limits.up_s)
        highest = max(fall for _, _, fall in self._seen)
        current = self.limits.bounded(load.ready) if self._current is None else self._current
        self._current = max(lowest, min(current, highest))
        self.reason = _reason(load, self.limits, wanted, self._current)
        return self._current


def _asks(load: PoolLoad, limits: ReplicaLimits) -> list[tuple[float, str]]:
    """Numbers of replicas, each with its reason."""
    # Those out of sight count as full, to be careful with requests; here they tell nothing.
    fresh = load.ready - load.stale
    seen = max(0.0, load.saturation * load.ready - load.stale) / fresh if fresh else 0.0
    aim = f"aiming at {limits.target_saturation:.0%}"
    asks = [
        (
            load.ready * seen / limits.target_saturation,
            f"saturation {seen:.0%} of {load.ready} ready, {aim}",
        )
    ]
    if load.utilization is not None:
        asked = load.ready * load.utilization / limits.target_utilization
        aim = f"aiming at {limits.target_utilization:.0%}"
        asks.append((asked, f"utilization {load.utilization:.0%} of {load.ready} ready, {aim}"))
    if load.predicted_ttft_s is not None and limits.ttft_slo_s:
        ahead_s = load.ready * max(0.0, load.predicted_ttft_s - load.own_ttft_s)
        room_s = max(limits.ttft_slo_s - load.own_ttft_s, LEAST_SLO_SHARE * limits.ttft_slo_s)
        told = f"first token after {load.predicted_ttft_s:.2f} s, {limits.ttft_slo_s:g} s asked for"
        asks.append((ahead_s / room_s, told))
    return asks


def _reason(load: PoolLoad, limits: ReplicaLimits, wanted: int, current: int) -> str:
    _, told = max(_asks(load, limits), key=lambda ask: ask[0])
    if current > wanted:
        return f"{told}; that is {wanted}, but more were asked for within {limits.down_s:g} s"
    if current < wanted:
        return f"{told}; that is {wanted}, but not yet for {limits.up_s:g} s"
    return told
