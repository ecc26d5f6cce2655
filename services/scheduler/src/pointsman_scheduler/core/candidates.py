"""What plugins see of the endpoints that may serve a request: one column per fact.

Row `i` of every column is of `endpoints[i]`. The columns of an unfiltered set are the table's own
and are shared by all picks, so nobody writes to them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_scheduler.core.arrays import BoolArray, FloatArray

# Rows of the matrix that holds the columns; see the properties of Candidates. The scraped ones come
# first, then when they were read, then the leases' sums.
(
    WAITING,
    RUNNING,
    KV,
    KV_TOKENS,
    READ_AT,
    REQUESTS,
    PREFILL_TOKENS,
    PREFILLING,
    SERVING,
    CONTEXT_TOKENS,
    SPEED,
    DRAG,
) = range(12)
COLUMNS = 12

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

    def select(self, keep: BoolArray) -> "LoraColumns":
        """Of the endpoints where `keep` is true."""
        return _SelectedLoraColumns(self, keep)

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


class _SelectedLoraColumns(LoraColumns):
    """Reads from those of all endpoints, which are worked out once for many requests."""

    def __init__(self, whole: LoraColumns, keep: BoolArray) -> None:
        super().__init__(())
        self._whole, self._keep = whole, keep

    def active(self, adapter: str) -> BoolArray:
        return self._whole.active(adapter)[self._keep]

    def waiting(self, adapter: str) -> BoolArray:
        return self._whole.waiting(adapter)[self._keep]

    def has_free_slot(self) -> BoolArray:
        return self._whole.has_free_slot()[self._keep]


def _has_free_slot(metrics: EndpointMetrics) -> bool:
    used = len(metrics.active_loras) + len(metrics.waiting_loras)
    return used < (metrics.max_loras or 0)


@dataclass(slots=True)
class Candidates:
    endpoints: tuple[Endpoint, ...]
    labels: tuple[Mapping[str, str], ...]
    """Of each endpoint. The same tuple object as long as the set of endpoints stays, so that what
    is worked out from labels alone can be kept."""
    columns: FloatArray
    """COLUMNS x endpoints."""
    loras: LoraColumns
    cached_blocks: FloatArray
    """Leading blocks of this request's prompt that each endpoint likely holds."""

    now: float
    """Monotonic seconds of the decision."""
    fresh_s: float
    """Age up to which scraped values are believed wholly."""
    half_life_s: float
    """What halves that belief, time and again, beyond it."""
    all_believed: bool
    """Every scraped number of every endpoint is known, and its `freshness` is 1."""

    def __len__(self) -> int:
        return len(self.endpoints)

    @property
    def waiting(self) -> FloatArray:
        """Requests in the engine's queue, as scraped; NaN: not known."""
        return self._column(WAITING)

    @property
    def running(self) -> FloatArray:
        """Requests in the engine's batch, as scraped; NaN: not known."""
        return self._column(RUNNING)

    @property
    def kv(self) -> FloatArray:
        """KV cache utilization, 0 to 1, as scraped; NaN: not known."""
        return self._column(KV)

    @property
    def kv_tokens(self) -> FloatArray:
        """Size of the KV cache in tokens; NaN: not known."""
        return self._column(KV_TOKENS)

    @property
    def age_s(self) -> FloatArray:
        """Seconds since the scraped values left the engine; infinite: never read."""
        age_s: FloatArray = np.maximum(self.now - self._column(READ_AT), 0.0)
        return age_s

    @property
    def freshness(self) -> FloatArray:
        """How far the scraped values are believed: 1 when young, halved for every half-life beyond
        that, 0 when never read. A scorer that reads them gives the rest to in-flight load."""
        half_lives = np.maximum(self.age_s - self.fresh_s, 0.0) / self.half_life_s
        freshness: FloatArray = np.exp2(-half_lives)
        return freshness

    @property
    def requests(self) -> FloatArray:
        """Leases: requests picked and not yet finished, by all replicas."""
        return self._column(REQUESTS)

    @property
    def prefill_tokens(self) -> FloatArray:
        """P: uncached prompt tokens picked whose first token is not back."""
        return self._column(PREFILL_TOKENS)

    @property
    def prefilling(self) -> FloatArray:
        """Q: their number."""
        return self._column(PREFILLING)

    @property
    def serving(self) -> FloatArray:
        """B: streams past the first token."""
        return self._column(SERVING)

    @property
    def context_tokens(self) -> FloatArray:
        """C: prompt tokens of those streams."""
        return self._column(CONTEXT_TOKENS)

    @property
    def speed(self) -> FloatArray:
        """v: time that the same prefill takes, relative to the reference engine."""
        return self._column(SPEED)

    @property
    def drag(self) -> FloatArray:
        """u: time that the same step takes beside its prefill, relative to the reference engine."""
        return self._column(DRAG)

    def select(self, keep: BoolArray) -> "Candidates":
        """Those where `keep` is true, in the same order."""
        return Candidates(
            endpoints=tuple(compress(self.endpoints, keep)),
            labels=tuple(compress(self.labels, keep)),
            columns=self.columns[:, keep],
            loras=self.loras.select(keep),
            cached_blocks=self.cached_blocks[keep],
            now=self.now,
            fresh_s=self.fresh_s,
            half_life_s=self.half_life_s,
            all_believed=self.all_believed,
        )

    def _column(self, fact: int) -> FloatArray:
        column: FloatArray = self.columns[fact]
        return column
