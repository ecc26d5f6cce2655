import math
from collections.abc import Sequence
from random import Random
from typing import Annotated

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray, IntArray

_FEW_WANTED = 16
"""Up to so many are taken one by one, which is then faster than sorting all."""

_FEW_CANDIDATES = 64
"""Up to so many are looked through in plain Python, which is then faster than numpy."""


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    max_num_of_endpoints: Annotated[int, msgspec.Meta(gt=0)] = 1
    """The first serves, the others are fallbacks in order."""


class MaxScorePicker:
    """Takes the highest scores, ties at random. Source: llm-d-router's max-score-picker."""

    def __init__(self, parameters: Parameters) -> None:
        self._wanted = parameters.max_num_of_endpoints

    def pick(self, totals: FloatArray, rng: Random) -> Sequence[int]:
        wanted = min(self._wanted, len(totals))
        if wanted > _FEW_WANTED:
            return _sorted(totals.tolist(), wanted, rng)
        few = len(totals) <= _FEW_CANDIDATES
        taken: list[int] = []
        while len(taken) < wanted:
            ties = _best_of_few(totals.tolist(), taken) if few else _best(totals, taken)
            taken += _drawn(ties, wanted - len(taken), rng)
        return taken


def _best_of_few(totals: list[float], taken: list[int]) -> list[int]:
    """Rows of the highest score among those not taken, all that are equal."""
    for row in taken:
        totals[row] = -math.inf
    best = max(totals)
    return [row for row, total in enumerate(totals) if total == best]


def _best(totals: FloatArray, taken: list[int]) -> IntArray:
    """The same by numpy."""
    if taken:
        totals = totals.copy()
        totals[taken] = -np.inf
    return np.flatnonzero(totals == np.maximum.reduce(totals))


def _drawn(ties: Sequence[int] | IntArray, most: int, rng: Random) -> list[int]:
    """So many of them at random, in random order; all where there are not more."""
    if len(ties) == 1:
        return [int(ties[0])]
    drawn: dict[int, None] = {}
    while len(drawn) < min(most, len(ties)):
        drawn[int(rng.random() * len(ties))] = None
    return [int(ties[place]) for place in drawn]


def _sorted(totals: list[float], wanted: int, rng: Random) -> list[int]:
    rows = list(range(len(totals)))
    rng.shuffle(rows)
    return sorted(rows, key=lambda row: -totals[row])[:wanted]
