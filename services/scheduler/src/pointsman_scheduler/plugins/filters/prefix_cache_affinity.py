from random import Random
from typing import Annotated, Literal

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import BoolArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest

_STREAM = 0x5EED_AFF1
"""Sets this filter's randomness apart from the picker's, which follows from the same seed."""


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    affinity_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.8
    """Share of the prompt's blocks from which an endpoint counts as sticky."""
    exploration_probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """How often all are kept regardless."""
    max_ttft_penalty_ms: Annotated[float, msgspec.Meta(ge=0)] = msgspec.field(
        name="maxTTFTPenaltyMs", default=18_000.0
    )
    """All are kept when sticking would cost more than this. 0: never mind the cost."""
    ttft_source: Literal["prefillThroughput"] = "prefillThroughput"
    peak_prefill_throughput: Annotated[float, msgspec.Meta(gt=0)] = 15_928.0
    """Prompt tokens per second."""


class PrefixCacheAffinityFilter:
    """Keeps the endpoints that likely hold most of the prompt, unless the best of them would answer
    later than the best of the others by more than the penalty; all where none holds enough.

    time to first token = uncached tokens in flight / throughput
    Source: llm-d-router's prefix-cache-affinity-filter.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._is = parameters

    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        everyone = np.ones(len(candidates), dtype=np.bool_)
        total = len(request.block_hashes)
        if not total:
            return everyone
        sticky = candidates.cached_blocks / total >= self._is.affinity_threshold
        if not sticky.any() or sticky.all():
            return everyone
        explores = self._is.exploration_probability
        if explores and Random(request.seed ^ _STREAM).random() < explores:
            return everyone
        if self._is.max_ttft_penalty_ms:
            ttft_ms = candidates.prefill_tokens / self._is.peak_prefill_throughput * 1e3
            penalty = ttft_ms[sticky].min() - ttft_ms[~sticky].min()
            if penalty > self._is.max_ttft_penalty_ms:
                return everyone
        return sticky
