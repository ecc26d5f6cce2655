from collections import OrderedDict
from typing import Annotated

import msgspec
import numpy as np

from pointsman_common.endpoint import Endpoint
from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    lru_size: Annotated[int, msgspec.Meta(gt=0)] = 1024
    """Endpoints remembered."""
    prefix_match_info_producer_name: str = ""
    """Accepted and without effect: there is one prefix index to a pool."""


class NoHitLruScorer:
    """Spreads prompts that no endpoint holds over those least recently given such a prompt.

    Somewhere a hit: 0.5 everywhere. Else by rank, 1 - rank / (n - 1): never used first, in the
    candidates' order, then the longest unused. Source: llm-d-router's no-hit-lru-scorer. Each
    replica counts its own picks.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._size = parameters.lru_size
        self._used: OrderedDict[str, None] = OrderedDict()
        self._cold = ""

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        count = len(candidates)
        if candidates.cached_blocks.any():
            self._cold = ""
            return np.full(count, 0.5)
        self._cold = request.request_id
        if count == 1:
            return np.ones(1)
        age = {uid: rank for rank, uid in enumerate(self._used, start=1)}  # 0: never used
        order = sorted(range(count), key=lambda row: age.get(candidates.endpoints[row].uid, 0))
        score = np.zeros(count)
        score[order] = 1.0 - np.arange(count) / (count - 1)
        return score

    def memory_of(self, request: SchedulingRequest, candidates: Candidates) -> bytes:
        """The candidates' ranks by last use, 0 for never, in 32 bits each."""
        del request
        if not self._used or candidates.cached_blocks.any():
            return b""
        age = {uid: rank for rank, uid in enumerate(self._used, start=1)}
        ranks = [age.get(one.uid, 0) for one in candidates.endpoints]
        return np.array(ranks, dtype="<u4").tobytes()

    def recall(self, memory: bytes, request: SchedulingRequest, candidates: Candidates) -> None:
        del request
        ranks = np.frombuffer(memory, dtype="<u4")
        if memory and len(ranks) != len(candidates):
            raise ValueError(f"{len(ranks)} ranks of {len(candidates)} candidates")
        order = [row for row in np.argsort(ranks, kind="stable") if ranks[row]]
        self._used = OrderedDict((candidates.endpoints[row].uid, None) for row in order)

    def picked(
        self, request: SchedulingRequest, candidates: Candidates, endpoint: Endpoint
    ) -> None:
        del candidates
        if self._cold != request.request_id:
            return
        self._used[endpoint.uid] = None
        self._used.move_to_end(endpoint.uid)
        if len(self._used) > self._size:
            self._used.popitem(last=False)
