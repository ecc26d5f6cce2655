import math
from collections.abc import Sequence
from random import Random
from typing import Annotated

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray

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
        if len(totals) <= _FEW_CANDIDATES:
            return _few(totals.tolist(), wanted, rng)
        left, taken = totals.copy(), list[int]()
        for _ in range(wanted):
            ties = np.flatnonzero(left == np.maximum.reduce(left))
            row = int(ties[rng.randrange(len(ties)) if len(ties) > 1 else 0])
            left[row] = -np.inf
            taken.append(row)
        return taken


def _few(left: list[float], wanted: int, rng: Random) -> list[int]:
    taken: list[int] = []
    for _ in range(wanted):
        best = max(left)
        ties = [row for row, total in enumerate(left) if total == best]
        row = ties[0] if len(ties) == 1 else ties[rng.randrange(len(ties))]
        left[row] = -math.inf
        taken.append(row)
    return taken


def _sorted(totals: list[float], wanted: int, rng: Random) -> list[int]:
    rows = list(range(len(totals)))
    rng.shuffle(rows)
    return sorted(rows, key=lambda row: -totals[row])[:wanted]
