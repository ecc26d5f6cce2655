"""How fast each endpoint is, learned from the times to first token that were seen.

A time to first token is taken as `f * (v * prefill + u * overhead)`: the seconds that the policy's
constants give for the prompt tokens to be computed, and for the steps that this takes. `v` and `u`
are of a kind of endpoints (the same engine, the same value of the label that tells kinds apart),
`f` is of one endpoint; all are 1 where the constants fit.

`v` and `u` follow each observation by a normalised least-mean-squares step (Widrow and Hoff), and
leak towards 1, since what is seen may hardly tell one from the other. `f` follows by a share of its
error. Errors are cut off, so that no single outlier moves anything far, and all stay in bounds.
"""

import math
from dataclasses import dataclass

SLOWEST, FASTEST = 8.0, 0.125
RATE = 0.02
"""Share of an observation's error that is corrected at once."""
LEAK = 0.001
"""Share of a kind's difference from 1 that each observation takes away."""
WORST_ERROR = 1.0
"""An error counts at most as much as the prediction itself."""
TRUSTED = 50
"""Observations from which an endpoint's own factor holds."""
NOISE = 1.5
"""An endpoint within this ratio of its kind is reckoned like its kind: equals are to be taken for
equals."""
SHORTEST_S = 1e-6
"""A prediction below this is none."""
KINDS = 256


@dataclass(slots=True)
class _Kind:
    """What the constants are multiplied by; 1 means that they fit."""

    prefill: float = 1.0
    """v: of the seconds per prompt token, and of all that follows from them."""
    overhead: float = 1.0
    """u: of the seconds per step."""
    seen: int = 0


@dataclass(slots=True)
class _Own:
    factor: float = 1.0
    """f: what the endpoint takes longer than its kind."""
    seen: int = 0


@dataclass(frozen=True, slots=True)
class ExpectedTtft:
    """A time to first token in its parts, before any factor; seconds."""

    prefill_s: float
    overhead_s: float


class EndpointSpeeds:
    """Of one pool's endpoints, by uid; those of endpoints that went are forgotten by `keep`."""

    def __init__(self) -> None:
        self._endpoints: dict[str, _Own] = {}
        self._kinds: dict[str, _Kind] = {}

    def learn(self, uid: str, kind: str, expected: ExpectedTtft, ttft_s: float) -> bool:
        """A first token came after `ttft_s`; returns whether that was of use."""
        total_s = expected.prefill_s + expected.overhead_s
        if not (math.isfinite(ttft_s) and ttft_s > 0 and SHORTEST_S <= total_s < math.inf):
            return False
        others = self._kinds.get(kind)
        if others is None:
            if len(self._kinds) >= KINDS:
                return False
            others = self._kinds[kind] = _Kind()
        own = self._endpoints.setdefault(uid, _Own())
        predicted_s = others.prefill * expected.prefill_s + others.overhead * expected.overhead_s
        ratio = ttft_s / predicted_s
        error = min(max(ratio / own.factor - 1.0, -WORST_ERROR), WORST_ERROR)
        own.factor = _bounded(own.factor * (1.0 + _rate(own.seen) * error))
        own.seen += 1
        _follow(others, expected, ttft_s, predicted_s)
        return True

    def of(self, uid: str, kind: str) -> tuple[float, float]:
        """v and u to reckon with for an endpoint, f included."""
        others = self._kinds.get(kind)
        if others is None:
            return 1.0, 1.0
        own = self._endpoints.get(uid)
        factor = 1.0
        if own is not None and own.seen >= TRUSTED and not 1.0 / NOISE <= own.factor <= NOISE:
            factor = own.factor
        return _bounded(others.prefill * factor), _bounded(others.overhead * factor)

    def keep(self, uids: set[str]) -> None:
        """Forget the endpoints that are not among these."""
        for uid in self._endpoints.keys() - uids:
            del self._endpoints[uid]


def _follow(kind: _Kind, expected: ExpectedTtft, ttft_s: float, predicted_s: float) -> None:
    prefill_s, overhead_s = expected.prefill_s, expected.overhead_s
    most_s = WORST_ERROR * predicted_s
    error_s = min(max(ttft_s - predicted_s, -most_s), most_s)
    step = _rate(kind.seen) * error_s / (prefill_s**2 + overhead_s**2)
    kind.prefill = _bounded(kind.prefill + step * prefill_s + LEAK * (1.0 - kind.prefill))
    kind.overhead = _bounded(kind.overhead + step * overhead_s + LEAK * (1.0 - kind.overhead))
    kind.seen += 1


def _rate(seen: int) -> float:
    """The first observations say more than what was known before."""
    return max(RATE, 1.0 / (seen + 2.0)) if seen < TRUSTED else RATE


def _bounded(factor: float) -> float:
    return min(max(factor, FASTEST), SLOWEST)
