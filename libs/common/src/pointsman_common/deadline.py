"""The time left to a call that is made of several."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in monotonic seconds."""

    at: float

    @classmethod
    def after(cls, now: float, seconds: float) -> "Deadline":
        return cls(now + seconds)

    def left(self, now: float, *, at_most: float = float("inf")) -> float:
        """Seconds left, never below 0, capped by a hop's own limit."""
        return max(0.0, min(self.at - now, at_most))

    def passed(self, now: float) -> bool:
        return now >= self.at
