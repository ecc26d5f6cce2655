"""The endpoints of one pool as columns, kept up to date so that a pick only reads them.

Rebuilt when endpoints come, go or change; scraped values are written where they changed; load is
written at each lease event. Row `i` of every column is of the same endpoint.
Benchmark: tests/load/bench_pick.py.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from pointsman_common.endpoint import Endpoint, EndpointMetrics, in_subset
from pointsman_common.in_flight import EndpointLoad
from pointsman_common.pool_view import PoolRecord
from pointsman_scheduler.core.arrays import BoolArray, FloatArray
from pointsman_scheduler.core.candidates import (
    COLUMNS,
    CONTEXT_TOKENS,
    DRAG,
    KV_TOKENS,
    PREFILL_TOKENS,
    PREFILLING,
    READ_AT,
    REQUESTS,
    SERVING,
    SPEED,
    Candidates,
    LoraColumns,
)
from pointsman_scheduler.core.lease_excess import LeaseExcess

SpeedOf: TypeAlias = Callable[[Endpoint], tuple[float, float]]
"""v and u of an endpoint, see Candidates.speed and Candidates.drag."""


def _as_reference(_: Endpoint) -> tuple[float, float]:
    return 1.0, 1.0


class EndpointTable:
    """`fresh_s`: age up to which scraped values are believed wholly; `half_life_s`: what halves
    that belief, time and again, beyond it."""

    def __init__(
        self,
        load_of: Callable[[str], EndpointLoad],
        *,
        fresh_s: float,
        half_life_s: float,
        speed_of: SpeedOf = _as_reference,
    ) -> None:
        self._load_of, self._fresh_s, self._half_life_s = load_of, fresh_s, half_life_s
        self._speed_of = speed_of
        self.excess = LeaseExcess()
        self._membership = -1
        self._version = -1
        self._rebuild(())

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return self._endpoints

    def get(self, uid: str) -> Endpoint | None:
        """The endpoint of a uid; `None`: it is not here."""
        row = self._row_of.get(uid)
        return None if row is None else self._endpoints[row]

    def refresh(self, record: PoolRecord) -> bool:
        """Take over what changed in the view; returns whether the set of endpoints did, or the
        size of a cache."""
        if record.version == self._version:
            return False
        self._version = record.version
        if record.membership_version != self._membership:
            self._membership = record.membership_version
            self._rebuild(tuple(record.ready_endpoints()))
            return True
        return self._update(tuple(record.ready_endpoints()))

    def replace(self, endpoints: Sequence[Endpoint]) -> None:
        """Take these endpoints in place of a view's."""
        self._membership = self._version = -1
        self._rebuild(tuple(endpoints))

    def note_load(self, endpoint: str) -> None:
        """The leases of an endpoint, by uid or address, changed."""
        row = self._row_of.get(endpoint)
        if row is not None:
            self._write_load(row)

    def speeds(self) -> Iterable[tuple[Endpoint, float]]:
        """v of each endpoint."""
        return zip(self._endpoints, self._columns[SPEED].tolist(), strict=True)

    def note_speed(self, endpoint: str) -> None:
        """The speed of an endpoint, by uid, changed."""
        row = self._row_of.get(endpoint)
        if row is not None:
            self._write_speed(row)

    def note_speeds(self) -> None:
        """All speeds may have changed."""
        for row in range(len(self._endpoints)):
            self._write_speed(row)

    def allowed_rows(self, subset: frozenset[str]) -> BoolArray:
        """Where the gateway's subset allows the endpoint."""
        return np.array(
            [in_subset(endpoint.address, subset) for endpoint in self._endpoints], dtype=np.bool_
        )

    def candidates(self, now: float, cached_blocks: FloatArray) -> Candidates:
        """All rows. `now` is in the monotonic seconds of the metrics' `read_at`."""
        return Candidates(
            endpoints=self._endpoints,
            labels=self._labels,
            columns=self._columns,
            loras=self._loras,
            cached_blocks=cached_blocks,
            now=now,
            fresh_s=self._fresh_s,
            half_life_s=self._half_life_s,
            all_believed=self._all_known and now - self._oldest_read_at <= self._fresh_s,
        )

    def _rebuild(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._endpoints = endpoints
        self._labels: tuple[Mapping[str, str], ...] = tuple(one.labels for one in endpoints)
        self._row_of = {one.uid: row for row, one in enumerate(endpoints)}
        for row, one in enumerate(endpoints):
            self._row_of.setdefault(one.address, row)
        self._columns: FloatArray = np.zeros((COLUMNS, len(endpoints)))
        self.excess.keep({one.uid for one in endpoints})
        for row, one in enumerate(endpoints):
            self._write_speed(row)
            self._write_metrics(row, one.metrics)
            self._compare(row)
            self._write_load(row)
        self._loras = LoraColumns(endpoints)
        self._sum_up()

    def _update(self, endpoints: tuple[Endpoint, ...]) -> bool:
        """Write the metrics that changed; returns whether the size of a cache did."""
        known, loras_changed, caches_changed = self._endpoints, False, False
        self._endpoints = endpoints
        for row, (old, new) in enumerate(zip(known, endpoints, strict=True)):
            if new is old:
                continue
            before, after = old.metrics, new.metrics
            self._write_metrics(row, after)
            if self._compare(row):
                self._write_load(row)
            caches_changed = caches_changed or _kv_tokens(before) != _kv_tokens(after)
            loras_changed = loras_changed or (
                after.active_loras != before.active_loras
                or after.waiting_loras != before.waiting_loras
                or after.max_loras != before.max_loras
            )
        if loras_changed:
            self._loras = LoraColumns(endpoints)
        self._sum_up()
        return caches_changed

    def _sum_up(self) -> None:
        """Note what spares each pick a look at every row."""
        scraped, read_at = self._columns[: KV_TOKENS + 1], self._columns[READ_AT]
        self._all_known = not np.isnan(scraped).any()
        self._oldest_read_at = float(read_at.min()) if len(read_at) else float("inf")

    def _write_metrics(self, row: int, metrics: EndpointMetrics) -> None:
        self._columns[: READ_AT + 1, row] = (
            _or_unknown(metrics.waiting_requests),
            _or_unknown(metrics.running_requests),
            _utilization(metrics.kv_cache_utilization),
            _or_unknown(_kv_tokens(metrics)),
            -math.inf if metrics.read_at is None else metrics.read_at,
        )

    def _write_speed(self, row: int) -> None:
        self._columns[SPEED, row], self._columns[DRAG, row] = self._speed_of(self._endpoints[row])

    def _compare(self, row: int) -> bool:
        """Hold the leases against what the engine reports; returns whether fewer or more of them
        count than did."""
        endpoint = self._endpoints[row]
        requests = self._load_of(endpoint.uid).requests
        if endpoint.address != endpoint.uid:
            requests += self._load_of(endpoint.address).requests
        return self.excess.note(endpoint.uid, requests, endpoint.metrics)

    def _write_load(self, row: int) -> None:
        endpoint, columns = self._endpoints[row], self._columns
        load = self._load_of(endpoint.uid)
        columns[REQUESTS, row] = load.requests
        columns[PREFILL_TOKENS, row] = load.prefill_tokens
        columns[PREFILLING, row] = load.prefilling
        columns[SERVING, row] = load.serving
        columns[CONTEXT_TOKENS, row] = load.context_tokens
        # Leases of who knows addresses only.
        more = self._load_of(endpoint.address)
        if more.requests and endpoint.address != endpoint.uid:
            columns[REQUESTS, row] += more.requests
            columns[PREFILL_TOKENS, row] += more.prefill_tokens
            columns[PREFILLING, row] += more.prefilling
            columns[SERVING, row] += more.serving
            columns[CONTEXT_TOKENS, row] += more.context_tokens
        if self.excess.any:
            believed = self.excess.believed(endpoint.uid, columns[REQUESTS, row])
            if believed < 1.0:
                columns[REQUESTS : CONTEXT_TOKENS + 1, row] *= believed


def _or_unknown(value: float | None) -> float:
    return math.nan if value is None else value


def _utilization(value: float | None) -> float:
    """What no cache can have, a foreign engine may report; infinite counts as unknown."""
    return math.nan if value is None or not math.isfinite(value) else max(value, 0.0)


def _kv_tokens(metrics: EndpointMetrics) -> int | None:
    if not metrics.kv_cache_blocks or not metrics.block_size_tokens:
        return None
    return metrics.kv_cache_blocks * metrics.block_size_tokens
