from typing import Annotated

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    queue_threshold_tokens: Annotated[int, msgspec.Meta(gt=0)] = 4_194_304
    """T: tokens from which the score is 0."""
    in_flight_load_producer_name: str = ""
    """Accepted and without effect: leases are the one source of in-flight load."""


class TokenLoadScorer:
    """Prefers the endpoints with the fewest prompt tokens to prefill, this request's included.

    t = uncached tokens in flight + uncached tokens of this request; score = 1 - min(t, T) / T
    Source: llm-d-router's token-load-scorer.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._threshold = parameters.queue_threshold_tokens

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        held = candidates.cached_blocks * request.block_tokens
        # The last token is always computed.
        uncached = np.maximum(request.prompt_tokens - held, min(request.prompt_tokens, 1))
        tokens = candidates.prefill_tokens + uncached
        return 1.0 - np.minimum(tokens, self._threshold) / self._threshold
