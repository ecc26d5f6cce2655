"""The endpoints of one pool as columns, kept up to date so that a pick only reads them.

Rebuilt when endpoints come, go or change; scraped values are written where they changed; load is
written at each lease event. Row `i` of every column is of the same endpoint.
Benchmark: tests/bench_pick.py.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pointsman_common.endpoint import Endpoint, in_subset
from pointsman_common.in_flight import EndpointLoad
from pointsman_common.pool_view import PoolRecord
from pointsman_scheduler.core.arrays import BoolArray, FloatArray, IntArray
from pointsman_scheduler.core.candidates import Candidates, LoraColumns

_UNKNOWN = float("nan")


class EndpointTable:
    """`fresh_s`: age up to which scraped values are believed wholly; `half_life_s`: what halves
    that belief, time and again, beyond it."""

    def __init__(
        self, load_of: Callable[[str], EndpointLoad], *, fresh_s: float, half_life_s: float
    ) -> None:
        self._load_of, self._fresh_s, self._half_life_s = load_of, fresh_s, half_life_s
        self._membership = -1
        self._version = -1
        self._rebuild(())

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return self._endpoints

    def refresh(self, record: PoolRecord) -> bool:
        """Take over what changed in the view; returns whether the set of endpoints did."""
        if record.version == self._version:
            return False
        self._version = record.version
        if record.membership_version != self._membership:
            self._membership = record.membership_version
            self._rebuild(tuple(record.ready_endpoints()))
            return True
        self._update(tuple(record.ready_endpoints()))
        return False

    def replace(self, endpoints: Sequence[Endpoint]) -> None:
        """Take these endpoints in place of a view's."""
        self._membership = self._version = -1
        self._rebuild(tuple(endpoints))

    def note_load(self, endpoint: str) -> None:
        """The leases of an endpoint, by uid or address, changed."""
        row = self._row_of.get(endpoint)
        if row is not None:
            self._write_load(row)

    def allowed_rows(self, subset: frozenset[str]) -> BoolArray:
        """Where the gateway's subset allows the endpoint."""
        return np.array(
            [in_subset(endpoint.address, subset) for endpoint in self._endpoints], dtype=np.bool_
        )

    def candidates(self, now: float, cached_blocks: IntArray) -> Candidates:
        """All rows. `now` is in the monotonic seconds of the metrics' `read_at`."""
        age_s = np.maximum(now - self._read_at, 0.0)
        freshness, young = self._ones, bool((age_s <= self._fresh_s).all())
        if not young:
            freshness = np.exp2(-np.maximum(age_s - self._fresh_s, 0.0) / self._half_life_s)
        return Candidates(
            endpoints=self._endpoints,
            labels=self._labels,
            waiting=self._waiting,
            running=self._running,
            kv=self._kv,
            kv_tokens=self._kv_tokens,
            age_s=age_s,
            freshness=freshness,
            all_believed=young and self._all_known,
            loras=self._loras,
            requests=self._requests,
            prefill_tokens=self._prefill_tokens,
            prefilling=self._prefilling,
            serving=self._serving,
            context_tokens=self._context_tokens,
            speed=self._ones,
            cached_blocks=cached_blocks,
        )

    def _rebuild(self, endpoints: tuple[Endpoint, ...]) -> None:
        size = len(endpoints)
        self._endpoints = endpoints
        self._labels: tuple[Mapping[str, str], ...] = tuple(one.labels for one in endpoints)
        self._row_of = {one.uid: row for row, one in enumerate(endpoints)}
        for row, one in enumerate(endpoints):
            self._row_of.setdefault(one.address, row)
        metrics = [one.metrics for one in endpoints]
        self._waiting = _column([one.waiting_requests for one in metrics])
        self._running = _column([one.running_requests for one in metrics])
        self._kv = _column([one.kv_cache_utilization for one in metrics])
        self._kv_tokens = _column([_kv_tokens(one) for one in endpoints])
        self._read_at = _column([one.read_at for one in metrics], unknown=float("-inf"))
        self._loras = LoraColumns(endpoints)
        self._all_known = self._is_all_known()
        self._ones: FloatArray = np.ones(size)
        self._requests = np.zeros(size)
        self._prefill_tokens = np.zeros(size)
        self._prefilling = np.zeros(size)
        self._serving = np.zeros(size)
        self._context_tokens = np.zeros(size)
        for row in range(size):
            self._write_load(row)

    def _update(self, endpoints: tuple[Endpoint, ...]) -> None:
        known, loras_changed = self._endpoints, False
        self._endpoints = endpoints
        for row, (old, new) in enumerate(zip(known, endpoints, strict=True)):
            if new is old:
                continue
            before, after = old.metrics, new.metrics
            self._waiting[row] = _or_unknown(after.waiting_requests)
            self._running[row] = _or_unknown(after.running_requests)
            self._kv[row] = _or_unknown(after.kv_cache_utilization)
            self._kv_tokens[row] = _or_unknown(_kv_tokens(new))
            self._read_at[row] = float("-inf") if after.read_at is None else after.read_at
            loras_changed = loras_changed or (
                after.active_loras != before.active_loras
                or after.waiting_loras != before.waiting_loras
                or after.max_loras != before.max_loras
            )
        self._all_known = self._is_all_known()
        if loras_changed:
            self._loras = LoraColumns(endpoints)

    def _is_all_known(self) -> bool:
        columns = (self._waiting, self._running, self._kv, self._kv_tokens)
        return not any(np.isnan(column).any() for column in columns)

    def _write_load(self, row: int) -> None:
        endpoint = self._endpoints[row]
        load, more = self._load_of(endpoint.uid), self._load_of(endpoint.address)
        self._requests[row] = load.requests + more.requests
        self._prefill_tokens[row] = load.prefill_tokens + more.prefill_tokens
        self._prefilling[row] = load.prefilling + more.prefilling
        self._serving[row] = load.serving + more.serving
        self._context_tokens[row] = load.context_tokens + more.context_tokens


def _column(values: Sequence[float | None], unknown: float = _UNKNOWN) -> FloatArray:
    return np.array([unknown if value is None else value for value in values], dtype=np.float64)


def _or_unknown(value: float | None) -> float:
    return _UNKNOWN if value is None else value


def _kv_tokens(endpoint: Endpoint) -> int | None:
    metrics = endpoint.metrics
    if not metrics.kv_cache_blocks or not metrics.block_size_tokens:
        return None
    return metrics.kv_cache_blocks * metrics.block_size_tokens
