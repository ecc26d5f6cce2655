"""How fast a pool takes requests lately, to say when it pays to come again."""

import math


class DrainRate:
    """Dispatches per second, weighted by exp(-age / tau), corrected for a short history."""

    def __init__(self, now: float, *, tau_s: float = 10.0) -> None:
        self._tau_s, self._started_at = tau_s, now
        self._rate, self._at = 0.0, now
        self._any = False
        self._mean_duration_s: float | None = None

    def count(self, now: float) -> None:
        """One request goes."""
        elapsed = now - self._at
        if elapsed > 0.0:
            self._rate *= math.exp(-elapsed / self._tau_s)
            self._at = now
        self._rate += 1.0 / self._tau_s
        self._any = True

    def finished(self, duration_s: float) -> None:
        """A request, of whatever replica, has taken so long from its pick to its end."""
        mean = self._mean_duration_s
        self._mean_duration_s = duration_s if mean is None else mean + 0.05 * (duration_s - mean)

    def per_second(self, now: float, *, running: float = 0.0) -> float | None:
        """`None` before the first dispatch.

        A pool that has `running` requests in flight and is full ends them at that number over
        their mean duration: after a quiet time more than the dispatches of late let expect.
        """
        if not self._any:
            return None
        seen = 1.0 - math.exp(-(now - self._started_at) / self._tau_s)
        elapsed = max(now - self._at, 0.0)
        rate = self._rate * math.exp(-elapsed / self._tau_s) / max(seen, _LEAST_SEEN)
        if self._mean_duration_s:
            rate = max(rate, running / self._mean_duration_s)
        return rate

    def wait_s(self, ahead: int, now: float, *, running: float = 0.0) -> float | None:
        """Seconds until so many requests have gone; `None`: not known."""
        rate = self.per_second(now, running=running)
        return None if rate is None else ahead / max(rate, _LEAST_RATE)


_LEAST_SEEN = 0.1  # within the first second nothing is known: count as if one had passed
_LEAST_RATE = 1e-4
