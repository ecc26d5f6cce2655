"""How long to wait before dialling again an address that could not be reached."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffRules:
    first_s: float = 0.05
    factor: float = 1.6
    longest_s: float = 1.0
    jitter: float = 0.2
    """Part by which a wait may be longer or shorter, so that clients do not return all at once."""


class Backoff:
    """Grows with each failure in a row; reset by a success."""

    def __init__(self, rules: BackoffRules, rng: Random) -> None:
        self._rules, self._rng = rules, rng
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def next_wait_s(self) -> float:
        rules = self._rules
        wait_s = min(rules.first_s * rules.factor**self._failures, rules.longest_s)
        self._failures += 1
        return wait_s * self._rng.uniform(1 - rules.jitter, 1 + rules.jitter)
