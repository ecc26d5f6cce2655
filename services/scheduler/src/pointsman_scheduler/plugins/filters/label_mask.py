"""Which candidates match by their labels, worked out once for a set of endpoints."""

from collections.abc import Callable, Mapping

import numpy as np

from pointsman_scheduler.core.arrays import BoolArray
from pointsman_scheduler.core.candidates import Candidates

_NONE: tuple[Mapping[str, str], ...] = ()


class LabelMask:
    def __init__(self, matches: Callable[[Mapping[str, str]], bool]) -> None:
        self._matches = matches
        self._labels = _NONE
        self._mask: BoolArray = np.zeros(0, dtype=np.bool_)

    def of(self, candidates: Candidates) -> BoolArray:
        if candidates.labels is not self._labels:
            self._labels = candidates.labels
            self._mask = np.array(
                [self._matches(labels) for labels in candidates.labels], dtype=np.bool_
            )
        return self._mask
