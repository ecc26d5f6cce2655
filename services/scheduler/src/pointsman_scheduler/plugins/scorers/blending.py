"""How a score from scraped values gives way to in-flight load as those values age."""

import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates


def fewest_first(values: FloatArray) -> FloatArray:
    """(most - value) / (most - fewest), in [0, 1]; 1 everywhere when all are equal.

    NaN (not known) stays NaN and does not count among the others.
    """
    most, fewest = float(np.fmax.reduce(values)), float(np.fmin.reduce(values))
    if most == fewest:
        return values * 0.0 + 1.0
    return (most - values) / (most - fewest)


def in_flight_score(candidates: Candidates) -> FloatArray:
    """1 for the fewest leases, 0 for the most; 1 everywhere when all have as many."""
    return fewest_first(candidates.requests)


def blend(scraped: FloatArray, candidates: Candidates) -> FloatArray:
    """`freshness` parts of the scraped score, the rest of the in-flight one.

    Where the scraped score is NaN, since the metric is not known, in-flight load alone counts.
    """
    if candidates.all_believed:
        return scraped
    unknown = np.isnan(scraped)
    weight = np.where(unknown, 0.0, candidates.freshness)
    scraped = np.where(unknown, 0.0, scraped)
    return weight * scraped + (1.0 - weight) * in_flight_score(candidates)
