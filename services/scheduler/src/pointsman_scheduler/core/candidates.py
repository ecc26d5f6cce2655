"""What plugins see of the endpoints that may serve a request: one column per fact.

Row `i` of every column is of `endpoints[i]`. The columns of an unfiltered set are the table's own
and are shared by all picks, so nobody writes to them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_scheduler.core.arrays import BoolArray, FloatArray, IntArray

_CACHED_ADAPTERS = 256


class LoraColumns:
    """Which adapters each endpoint has in use and waiting, and its slots."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._found: dict[str, tuple[BoolArray, BoolArray]] = {}
        self._free: BoolArray | None = None

    def active(self, adapter: str) -> BoolArray:
        """Where the adapter is in use."""
        return self._find(adapter)[0]

    def waiting(self, adapter: str) -> BoolArray:
        """Where requests wait for the adapter to be loaded."""
        return self._find(adapter)[1]

    def has_free_slot(self) -> BoolArray:
        """Where the adapters in use and waiting leave a slot; nowhere if slots are not known."""
        if self._free is None:
            self._free = np.array(
                [_has_free_slot(one.metrics) for one in self._endpoints], dtype=np.bool_
            )
        return self._free

    def _find(self, adapter: str) -> tuple[BoolArray, BoolArray]:
        found = self._found.get(adapter)
        if found is None:
            if len(self._found) >= _CACHED_ADAPTERS:
                self._found.clear()
            metrics = [one.metrics for one in self._endpoints]
            found = self._found[adapter] = (
                np.array([adapter in one.active_loras for one in metrics], dtype=np.bool_),
                np.array([adapter in one.waiting_loras for one in metrics], dtype=np.bool_),
            )
        return found


def _has_free_slot(metrics: EndpointMetrics) -> bool:
    used = len(metrics.active_loras) + len(metrics.waiting_loras)
    return used < (metrics.max_loras or 0)


@dataclass(frozen=True, slots=True)
class Candidates:
    endpoints: tuple[Endpoint, ...]
    labels: tuple[Mapping[str, str], ...]
    """Of each endpoint. The same tuple object as long as the set of endpoints stays, so that what
    is worked out from labels alone can be kept."""

    waiting: FloatArray
    """Requests in the engine's queue, as scraped; NaN: not known."""
    running: FloatArray
    """Requests in the engine's batch, as scraped; NaN: not known."""
    kv: FloatArray
    """KV cache utilization, 0 to 1, as scraped; NaN: not known."""
    kv_tokens: FloatArray
    """Size of the KV cache in tokens; NaN: not known."""
    age_s: FloatArray
    """Seconds since the scraped values left the engine; infinite: never read."""
    freshness: FloatArray
    """How far the scraped values are believed: 1 when young, halved for every half-life beyond
    that, 0 when never read. A scorer that reads them gives the rest to in-flight load."""
    all_believed: bool
    """Every scraped number of every endpoint is known and its `freshness` is 1."""
    loras: LoraColumns

    requests: FloatArray
    """Leases: requests picked and not yet finished, by all replicas."""
    prefill_tokens: FloatArray
    """P: uncached prompt tokens picked whose first token is not back."""
    prefilling: FloatArray
    """Q: their number."""
    serving: FloatArray
    """B: streams past the first token."""
    context_tokens: FloatArray
    """C: prompt tokens of those streams."""
    speed: FloatArray
    """v: time that the same work takes, relative to the reference engine."""

    cached_blocks: IntArray
    """Leading blocks of this request's prompt that the endpoint likely holds."""

    def __len__(self) -> int:
        return len(self.endpoints)

    def select(self, keep: BoolArray) -> "Candidates":
        """Those where `keep` is true, in the same order."""
        kept = tuple(compress(self.endpoints, keep))
        return Candidates(
            endpoints=kept,
            labels=tuple(compress(self.labels, keep)),
            waiting=self.waiting[keep],
            running=self.running[keep],
            kv=self.kv[keep],
            kv_tokens=self.kv_tokens[keep],
            age_s=self.age_s[keep],
            freshness=self.freshness[keep],
            all_believed=self.all_believed,
            loras=LoraColumns(kept),
            requests=self.requests[keep],
            prefill_tokens=self.prefill_tokens[keep],
            prefilling=self.prefilling[keep],
            serving=self.serving[keep],
            context_tokens=self.context_tokens[keep],
            speed=self.speed[keep],
            cached_blocks=self.cached_blocks[keep],
        )
