"""Numbers that the datalayer's extractors know of an endpoint: common to their scorer and filter.

The receipt of a decision tells them as what the plugin remembered, so that it can be made again.
Source: llm-d-router's endpoint-attribute plugins.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest

Key = Annotated[str, msgspec.Meta(min_length=1)]


class EndpointAttribute:
    def __init__(self, key: str) -> None:
        self._key = key
        self._recalled: Mapping[str, float] | None = None
        """By uid, while a decision is made again."""

    def values(self, candidates: Candidates) -> FloatArray:
        """The attribute of each candidate; NaN: not known."""
        if (recalled := self._recalled) is not None:
            return np.array([recalled.get(one.uid, np.nan) for one in candidates.endpoints])
        return np.array(
            [one.metrics.attributes.get(self._key, np.nan) for one in candidates.endpoints]
        )

    def memory_of(self, request: SchedulingRequest, candidates: Candidates) -> bytes:
        del request
        return self.values(candidates).astype("<f8").tobytes()

    def recall(self, memory: bytes, request: SchedulingRequest, candidates: Candidates) -> None:
        del request
        if len(memory) != 8 * len(candidates):
            raise ValueError("not an attribute of each candidate")
        values = np.frombuffer(memory, dtype="<f8").tolist()
        uids = [one.uid for one in candidates.endpoints]
        self._recalled = dict(zip(uids, values, strict=True))
