from typing import Annotated, Any

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    prefix_match_info_producer_name: str = ""
    """Accepted and without effect: there is one prefix index to a pool."""
    match_length_weight: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """w: how much the length of the match counts, against its share of the prompt."""
    match_length_scale_tokens: Annotated[int, msgspec.Meta(gt=0)] = 8192
    """Length from which a match counts wholly."""


class PreciseParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Of `precise-prefix-cache-scorer`: accepted and without effect. The pool's one index follows
    the engines' KV events wherever they come, and picks where they do not."""

    token_processor_config: dict[str, Any] = {}
    indexer_config: dict[str, Any] = {}
    kv_events_config: dict[str, Any] = {}
    speculative_indexing: bool = True
    speculative_ttl: str = "2s"


class PrefixCacheAffinityScorer:
    """Prefers the endpoints that likely hold the longest prefix of the prompt.

    score = (1 - w) * match / total + w * min(1, match * block / scale)^2, in blocks of the prompt;
    0 where the prompt has no blocks. Source: llm-d-router's prefix-cache-scorer.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._weight = parameters.match_length_weight
        self._scale_tokens = parameters.match_length_scale_tokens

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        total = len(request.block_hashes)
        if not total:
            return np.zeros(len(candidates))
        share = candidates.cached_blocks / total
        if not self._weight:
            return share
        tokens = candidates.cached_blocks * request.block_tokens
        length = np.minimum(1.0, tokens / self._scale_tokens)
        return (1.0 - self._weight) * share + self._weight * length**2


def precise_scorer(parameters: PreciseParameters) -> PrefixCacheAffinityScorer:
    """A `precise-prefix-cache-scorer`."""
    del parameters
    return PrefixCacheAffinityScorer(Parameters())
