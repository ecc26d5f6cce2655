"""How many replicas the load of a pool asks for.

    wanted = ceil(ready × saturation / target)

within bounds. It is followed upwards to the lowest value wanted during the last `up_s`, and
downwards to the highest during the last `down_s` (source: the stabilisation windows of Kubernetes'
HorizontalPodAutoscaler). There is no recommendation before `up_s` of good observations.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from pointsman_datalayer.core.scarcity_regime import PoolLoad

SAMPLE_S = 1.0
"""Shortest time between two remembered observations; bounds the memory."""


@dataclass(frozen=True, slots=True)
class ReplicaLimits:
    target_saturation: float = 0.7
    min_replicas: int = 1
    max_replicas: int = 0
    """0: no limit."""
    up_s: float = 15.0
    down_s: float = 300.0


def wanted_replicas(load: PoolLoad, limits: ReplicaLimits) -> int:
    """Replicas at which this load would meet the target saturation."""
    # Saturation is a mean of sums such as 0.1 × 7: a hair above a whole number is that number.
    wanted = math.ceil(load.ready * load.saturation / limits.target_saturation - 1e-9)
    ceiling = limits.max_replicas or wanted
    return max(limits.min_replicas, min(wanted, ceiling))


@dataclass(slots=True)
class ReplicaRecommendation:
    """The recommendation for one pool over time."""

    limits: ReplicaLimits
    _seen: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    _first_at: float | None = None
    _current: int | None = None

    def update(self, load: PoolLoad, now: float) -> int | None:
        """The recommendation; `None` while there is not enough to go by.

        An observation without ready endpoints or with stale ones says nothing and is left out:
        what is not seen must not scale a pool.
        """
        if not load.ready or load.stale:
            return self._current
        if self._seen and now - self._seen[-1][0] < SAMPLE_S:
            return self._current
        self._first_at = now if self._first_at is None else self._first_at
        self._seen.append((now, wanted_replicas(load, self.limits)))
        while now - self._seen[0][0] > self.limits.down_s:
            self._seen.popleft()
        if now - self._first_at < self.limits.up_s:
            return None
        lowest = min(count for at, count in self._seen if now - at <= self.limits.up_s)
        highest = max(count for _, count in self._seen)
        current = lowest if self._current is None else self._current
        self._current = max(lowest, min(current, highest))
        return self._current
