"""Budgets against floods: so many at once, then so many per second and per useful thing done.

A token bucket. The last part is for peers that do a lot of either: a gRPC client of another
language may send a PING for each few DATA frames to measure its line.
"""


class Budget:
    """Time and `earned` are looked at when the burst is spent: counting costs next to nothing."""

    __slots__ = ("_burst", "_filled_at", "_left", "_per_s", "earned")

    def __init__(self, burst: int, per_s: float, now: float) -> None:
        """`now` in seconds of any clock that does not go back."""
        self._burst, self._per_s = burst, per_s
        self._left, self._filled_at = float(burst), now
        self.earned = 0
        """Useful things done since; whoever sees them counts them here."""

    def spend(self, now: float) -> bool:
        """Take one; False when nothing is left."""
        self._left -= 1.0
        if self._left >= 0.0:
            return True
        refill = (now - self._filled_at) * self._per_s + self.earned
        self._left = min(float(self._burst), self._left + refill)
        self._filled_at, self.earned = now, 0
        if self._left < 0.0:
            self._left = 0.0
            return False
        return True
