"""How long requests wait: quantiles of the latest ones, in little memory."""

from bisect import bisect_left
from dataclasses import dataclass, field

_WIDTH = 1.2
_SHORTEST_S = 0.001
_BOUNDS = tuple(_SHORTEST_S * _WIDTH**step for step in range(70))
"""Upper bounds of the classes, seconds: from 1 ms to 5 minutes, 20 % apart."""

_KEPT = 1_024


@dataclass(slots=True)
class WaitTimes:
    """Counts by class, so that a quantile is at most 20 % too high.

    All counts are halved whenever there are 1,024: later waits outweigh earlier ones.
    """

    _counts: dict[int, int] = field(default_factory=dict[int, int])
    _total: int = 0

    def add(self, wait_s: float) -> None:
        step = 0 if wait_s <= _SHORTEST_S else bisect_left(_BOUNDS, wait_s)
        self._counts[step] = self._counts.get(step, 0) + 1
        self._total += 1
        if self._total >= _KEPT:
            self._counts = {key: count // 2 for key, count in self._counts.items() if count > 1}
            self._total = sum(self._counts.values())

    def quantile(self, share: float) -> float:
        """The wait in seconds that `share` (0-1) of the requests did not exceed; 0: none yet."""
        left = share * self._total
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return _BOUNDS[min(step, len(_BOUNDS) - 1)] if step else 0.0
        return 0.0
