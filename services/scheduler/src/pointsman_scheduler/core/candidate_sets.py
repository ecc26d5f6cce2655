"""The sets of endpoints that decisions were made among, each written once for many receipts."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from pointsman_common.contract_codec import encode_endpoint
from pointsman_common.contracts.scheduling_pb2 import CandidateSet
from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.decision_inputs import COLUMN_NAMES

SETS_KEPT = 64
"""Besides a pool's whole set there is one for each subset that gateways ask for."""

_NO_METRICS = EndpointMetrics()
_Labels: TypeAlias = tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class WrittenSet:
    hash: str
    message: bytes
    """A CandidateSet, serialized."""


class CandidateSets:
    """Knows a set again by its endpoints' label objects, which stay as long as an endpoint does."""

    def __init__(self) -> None:
        self._written: OrderedDict[tuple[str, ...], tuple[_Labels, WrittenSet]] = OrderedDict()
        self._last: tuple[_Labels, WrittenSet] | None = None

    def of(self, candidates: Candidates) -> WrittenSet:
        labels = candidates.labels
        if self._last is not None and labels is self._last[0]:
            return self._last[1]
        key = tuple(endpoint.uid for endpoint in candidates.endpoints)
        known = self._written.get(key)
        if known is None or any(old is not new for old, new in zip(known[0], labels, strict=True)):
            known = self._written[key] = (labels, write_set(candidates.endpoints))
            if len(self._written) > SETS_KEPT:
                self._written.popitem(last=False)
        self._written.move_to_end(key)
        self._last = (labels, known[1])
        return known[1]


def write_set(endpoints: Sequence[Endpoint]) -> WrittenSet:
    """The same endpoints always give the same hash."""
    message = CandidateSet(
        endpoints=(encode_endpoint(replace(one, metrics=_NO_METRICS), 0.0) for one in endpoints),
        columns=COLUMN_NAMES,
    )
    told = message.SerializeToString(deterministic=True)
    message.hash = hashlib.sha256(told).hexdigest()[:16]
    return WrittenSet(message.hash, message.SerializeToString(deterministic=True))
