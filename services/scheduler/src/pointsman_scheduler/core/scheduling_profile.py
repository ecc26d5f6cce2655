"""One profile: filters in order, then weighted scorers, then a picker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Generic, TypeVar

import numpy as np

from pointsman_common.endpoint import Endpoint
from pointsman_scheduler.core.arrays import BoolArray, FloatArray, IntArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.plugin_protocols import (
    Filter,
    LatencyPredictor,
    Picker,
    Prediction,
    Scorer,
)
from pointsman_scheduler.core.scheduling_request import SchedulingRequest

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Placed(Generic[P]):
    """A plugin in its place."""

    plugin: P
    name: str
    """In the configuration."""
    type: str
    weight: float = 1.0
    """Of a scorer."""


@dataclass(slots=True)
class FilterStep:
    name: str
    type: str
    rows: IntArray
    """Rows of the profile's candidates that were left after it."""


@dataclass(slots=True)
class ScoreStep:
    name: str
    type: str
    weight: float
    scores: FloatArray
    """Before the weight, by row of those left after the filters."""
    prediction: Prediction | None


_NO_TOTALS: FloatArray = np.zeros(0)


@dataclass(slots=True)
class ProfileRun:
    """How a profile came to its choice, or to none."""

    profile: str
    rows: IntArray
    """Rows of the profile's candidates that were left after the filters."""
    filters: list[FilterStep] = field(default_factory=list[FilterStep])
    scores: list[ScoreStep] = field(default_factory=list[ScoreStep])
    totals: FloatArray = field(default_factory=lambda: _NO_TOTALS)
    """Weighted sums, by row of `rows`."""
    picked: Sequence[int] = ()
    """Rows of the profile's candidates that were chosen, best first."""
    best: int = 0
    """Where the first of them stands in `rows` and `totals`."""
    chosen: Sequence[Endpoint] = ()
    cached_blocks: int = 0
    """Of the first of them."""

    @property
    def predicted_ttft_s(self) -> float:
        """Of the first of them; 0: not predicted."""
        for step in self.scores:
            if step.prediction is not None:
                return float(step.prediction.ttft_s[self.best])
        return 0.0


class SchedulingProfile:
    def __init__(
        self,
        name: str,
        filters: Sequence[Placed[Filter]],
        scorers: Sequence[Placed[Scorer]],
        picker: Placed[Picker],
    ) -> None:
        self.name, self.filters, self.scorers, self.picker = name, filters, scorers, picker
        self._scorers = [
            (entry, entry.plugin if isinstance(entry.plugin, LatencyPredictor) else None)
            for entry in scorers
        ]

    def run(self, request: SchedulingRequest, candidates: Candidates, rng: Random) -> ProfileRun:
        """Choose among at least one candidate; nothing is chosen when the filters leave none.

        A score is cut to 0–1, multiplied by its weight and added up; sums are not normalised.
        Source: llm-d-router, scheduling/scheduler_profile.go.
        """
        run = ProfileRun(self.name, every_row(len(candidates)))
        for placed in self.filters:
            keep = placed.plugin.keep(request, candidates)
            if not keep.all():
                candidates = candidates.select(keep)
                run.rows = run.rows[keep]
            run.filters.append(FilterStep(placed.name, placed.type, run.rows))
            if not len(candidates):
                return run
        totals: FloatArray | None = None
        for entry, predictor in self._scorers:
            step = _score(entry, predictor, request, candidates)
            weighted = step.scores if entry.weight == 1.0 else entry.weight * step.scores
            totals = weighted if totals is None else totals + weighted
            run.scores.append(step)
        run.totals = np.zeros(len(candidates)) if totals is None else totals
        picked = self.picker.plugin.pick(run.totals, rng)
        run.chosen = [candidates.endpoints[row] for row in picked]
        run.picked = [int(run.rows[row]) for row in picked]
        run.best = picked[0]
        run.cached_blocks = int(candidates.cached_blocks[run.best])
        return run


def _score(
    entry: Placed[Scorer],
    predictor: LatencyPredictor | None,
    request: SchedulingRequest,
    candidates: Candidates,
) -> ScoreStep:
    prediction = None
    if predictor is not None:
        prediction = predictor.predict(request, candidates)
        raw = predictor.score_of(prediction)
    else:
        raw = entry.plugin.score(request, candidates)
    if raw.shape != (len(candidates),):
        raise ValueError(f"scorer {entry.name!r} gave {raw.shape} for {len(candidates)} candidates")
    scores = np.minimum(np.fmax(raw, 0.0), 1.0)  # fmax: NaN becomes 0
    return ScoreStep(entry.name, entry.type, entry.weight, scores, prediction)


def totals_by_address(run: ProfileRun, candidates: Candidates) -> Mapping[str, float]:
    """Final weighted sums of those that the filters left."""
    return {
        candidates.endpoints[row].address: total
        for row, total in zip(run.rows.tolist(), run.totals.tolist(), strict=True)
    }


def kept_mask(rows: IntArray, size: int) -> BoolArray:
    """Rows as a mask over `size` candidates."""
    mask = np.zeros(size, dtype=np.bool_)
    mask[rows] = True
    return mask


@lru_cache(maxsize=32)
def every_row(size: int) -> IntArray:
    """Rows of so many candidates, all of them."""
    rows = np.arange(size)
    rows.flags.writeable = False  # one array for all runs
    return rows
