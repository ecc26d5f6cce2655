"""A limit on what may be used in a window of time, with a burst."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """Holds up to `capacity`, gains `per_s`. It may be in debt: what a request costs is known only
    when it ends. Times are monotonic seconds."""

    capacity: float
    per_s: float
    level: float
    at: float

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until so much is there; 0.0: it is. More than `capacity` is asked for as that:
        what never fits would never go."""
        self._fill(now)
        lacking = min(amount, self.capacity) - self.level
        return max(lacking / self.per_s, 0.0)

    def use(self, amount: float, now: float) -> None:
        """Negative: give back."""
        self._fill(now)
        self.level = min(self.level - amount, self.capacity)

    def is_full(self, now: float) -> bool:
        self._fill(now)
        return self.level >= self.capacity

    def _fill(self, now: float) -> None:
        if now > self.at:
            self.level = min(self.level + (now - self.at) * self.per_s, self.capacity)
            self.at = now
