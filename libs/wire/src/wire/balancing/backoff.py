"""Waits that grow with each failure in a row, with jitter."""

from dataclasses import dataclass
from random import Random

_LARGEST_EXPONENT = 64
"""Longer rows of failures wait no longer; a float could not hold the power of any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffRules:
    first_s: float = 0.05
    factor: float = 1.6
    longest_s: float = 1.0
    jitter: float = 0.2
    """Part by which a wait may be longer or shorter, so that clients do not return all at once."""

    def wait_s(self, failures: int, rng: Random) -> float:
        """The wait after a failure that `failures` others came before, in a row."""
        wait_s = self.first_s * self.factor ** min(failures, _LARGEST_EXPONENT)
        return min(wait_s, self.longest_s) * rng.uniform(1 - self.jitter, 1 + self.jitter)


class Backoff:
    """Grows with each failure in a row; reset by a success."""

    def __init__(self, rules: BackoffRules, rng: Random) -> None:
        self._rules, self._rng = rules, rng
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def next_wait_s(self) -> float:
        wait_s = self._rules.wait_s(self._failures, self._rng)
        self._failures += 1
        return wait_s
