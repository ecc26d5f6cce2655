"""How fast each endpoint is, learned from the times to first token that were seen.

A time to first token is taken as `v * prefill + u * overhead`: the seconds that the policy's
constants give for the prompt tokens to be computed, and for the steps that this takes. `v` and `u`
are 1 where the constants fit. They follow each observation by a normalised least-mean-squares step
(Widrow and Hoff), whose error is cut off, so that no single outlier moves them far, and they stay
within bounds. An endpoint that has served little leans on the mean of its kind: the same engine,
the same value of the label that tells kinds apart.
"""

import math
from dataclasses import dataclass

SLOWEST, FASTEST = 8.0, 0.125
RATE = 0.02
"""Share of an observation's error that is corrected at once."""
WORST_ERROR = 1.0
"""An error counts at most as much as the prediction itself."""
TRUSTED = 50
"""Observations from which an endpoint's own factors hold rather than those of its kind."""
NOISE = 1.5
"""An endpoint whose factor is within this ratio of its kind's is reckoned with its kind's: equals
are to be taken for equals."""
SHORTEST_S = 1e-6
"""A prediction below this is none."""
KINDS = 256


@dataclass(slots=True)
class Factors:
    """What the constants are multiplied by; 1 means that they fit."""

    prefill: float = 1.0
    """v: of the seconds per prompt token, and of all that follows from them."""
    overhead: float = 1.0
    """u: of the seconds per step."""
    seen: int = 0


@dataclass(frozen=True, slots=True)
class ExpectedTtft:
    """A time to first token in its parts, before any factor; seconds."""

    prefill_s: float
    overhead_s: float


class EndpointSpeeds:
    """Of one pool's endpoints, by uid; those of endpoints that went are forgotten by `keep`."""

    def __init__(self) -> None:
        self._endpoints: dict[str, Factors] = {}
        self._kinds: dict[str, Factors] = {}

    def learn(self, uid: str, kind: str, expected: ExpectedTtft, ttft_s: float) -> bool:
        """A first token came after `ttft_s`; returns whether that was of use."""
        total_s = expected.prefill_s + expected.overhead_s
        if not (math.isfinite(ttft_s) and ttft_s > 0 and SHORTEST_S <= total_s < math.inf):
            return False
        others = self._kinds.get(kind)
        if others is None:
            if len(self._kinds) >= KINDS:
                return False
            others = self._kinds[kind] = Factors()
        _follow(others, expected, ttft_s)
        known = self._endpoints.get(uid)
        if known is None:
            known = self._endpoints[uid] = Factors(others.prefill, others.overhead)
        _follow(known, expected, ttft_s)
        return True

    def of(self, uid: str, kind: str) -> tuple[float, float]:
        """v and u to reckon with."""
        others = self._kinds.get(kind)
        if others is None:
            return 1.0, 1.0
        own = self._endpoints.get(uid)
        if own is None or own.seen < TRUSTED:
            return others.prefill, others.overhead
        return _told_apart(own.prefill, others.prefill), _told_apart(own.overhead, others.overhead)

    def keep(self, uids: set[str]) -> None:
        """Forget the endpoints that are not among these."""
        for uid in self._endpoints.keys() - uids:
            del self._endpoints[uid]


def _follow(factors: Factors, expected: ExpectedTtft, ttft_s: float) -> None:
    prefill_s, overhead_s = expected.prefill_s, expected.overhead_s
    predicted_s = factors.prefill * prefill_s + factors.overhead * overhead_s
    error_s = min(max(ttft_s - predicted_s, -WORST_ERROR * predicted_s), WORST_ERROR * predicted_s)
    # In the first observations the error says more than what was known before.
    rate = max(RATE, 1.0 / (factors.seen + 2.0)) if factors.seen < TRUSTED else RATE
    step = rate * error_s / (prefill_s**2 + overhead_s**2)
    factors.prefill = _bounded(factors.prefill + step * prefill_s)
    factors.overhead = _bounded(factors.overhead + step * overhead_s)
    factors.seen += 1


def _told_apart(own: float, others: float) -> float:
    return others if 1.0 / NOISE <= own / others <= NOISE else own


def _bounded(factor: float) -> float:
    return min(max(factor, FASTEST), SLOWEST)
