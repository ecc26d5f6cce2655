"""How fast a pool takes requests lately, to say when it pays to come again."""

import math


class DrainRate:
    """Dispatches per second, weighted by exp(-age / tau), corrected for a short history."""

    def __init__(self, now: float, *, tau_s: float = 10.0) -> None:
        self._tau_s, self._started_at = tau_s, now
        self._rate, self._at = 0.0, now
        self._any = False

    def count(self, now: float) -> None:
        """One request goes."""
        self._rate = self._decayed(now) + 1.0 / self._tau_s
        self._at, self._any = now, True

    def per_second(self, now: float) -> float | None:
        """`None` before the first dispatch."""
        if not self._any:
            return None
        seen = 1.0 - math.exp(-(now - self._started_at) / self._tau_s)
        return self._decayed(now) / max(seen, _LEAST_SEEN)

    def wait_s(self, ahead: int, now: float) -> float | None:
        """Seconds until so many requests have gone; `None`: not known."""
        rate = self.per_second(now)
        if rate is None:
            return None
        return ahead / max(rate, _LEAST_RATE)

    def _decayed(self, now: float) -> float:
        return self._rate * math.exp(-(now - self._at) / self._tau_s)


_LEAST_SEEN = 0.1  # within the first second nothing is known: count as if one had passed
_LEAST_RATE = 1e-4
