"""Prompt tokens that each candidate would have to compute."""

import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


def cached_tokens(request: SchedulingRequest, candidates: Candidates) -> FloatArray:
    """Prompt tokens that each candidate likely holds; the last one is always computed."""
    held: FloatArray = candidates.cached_blocks.astype(np.float64) * request.block_tokens
    capped: FloatArray = np.minimum(held, max(request.prompt_tokens - 1, 0))
    return capped


def uncached_tokens(request: SchedulingRequest, candidates: Candidates) -> FloatArray:
    """The rest of the prompt."""
    return request.prompt_tokens - cached_tokens(request, candidates)
