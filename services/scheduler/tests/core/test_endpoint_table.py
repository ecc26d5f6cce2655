import math
from dataclasses import replace

import numpy as np
import pytest

from pointsman_common.contract_codec import encode_metrics
from pointsman_common.contracts.pool_pb2 import MetricsUpdate, PoolDelta
from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.in_flight import Lease, LeaseTable
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import POOL, a_snapshot, an_endpoint, an_envelope
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.endpoint_table import EndpointTable
from pointsman_scheduler.testing import NOW, candidates_of


def test_what_was_never_reported_is_unknown() -> None:
    candidates = candidates_of([an_endpoint(1, waiting=None, kv=None, read_at=None)])
    assert math.isnan(candidates.waiting[0])
    assert math.isnan(candidates.kv[0])
    assert candidates.age_s[0] == math.inf
    assert candidates.freshness[0] == 0.0
    assert not candidates.all_believed


@pytest.mark.parametrize(("age_s", "freshness"), [(0.0, 1.0), (1.0, 1.0), (6.0, 0.5), (11.0, 0.25)])
def test_belief_in_metrics_halves_with_every_half_life_beyond_a_second(
    age_s: float, freshness: float
) -> None:
    candidates = candidates_of([an_endpoint(1, read_at=NOW - age_s)])
    assert candidates.freshness[0] == pytest.approx(freshness)
    assert candidates.all_believed == (age_s <= 1.0)


def a_table(view: PoolView, leases: LeaseTable) -> EndpointTable:
    table = EndpointTable(leases.load, fresh_s=1.0, half_life_s=5.0)
    record = view.get(POOL)
    assert record is not None
    table.refresh(record)
    leases.on_load(lambda _pool, endpoint: table.note_load(endpoint))
    return table


def read(table: EndpointTable, view: PoolView) -> Candidates:
    record = view.get(POOL)
    assert record is not None
    table.refresh(record)
    return table.candidates(NOW, np.zeros(len(table.endpoints)))


def test_metrics_are_written_where_they_changed() -> None:
    view, leases = PoolView(max_age_s=10.0), LeaseTable()
    view.apply_snapshot(a_snapshot([an_endpoint(1), an_endpoint(2)]), NOW)
    table = a_table(view, leases)
    labels = read(table, view).labels
    metrics = EndpointMetrics(
        waiting_requests=7, kv_cache_utilization=0.5, active_loras=frozenset({"m"}), read_at=NOW
    )
    update = MetricsUpdate(uid="e2", metrics=encode_metrics(metrics, NOW))
    view.apply_delta(PoolDelta(envelope=an_envelope(2), pool=POOL, metrics=[update]), NOW)
    candidates = read(table, view)
    assert candidates.waiting.tolist() == [0, 7]
    assert candidates.kv.tolist() == [0, 0.5]
    assert math.isnan(candidates.running[1])
    assert candidates.loras.active("m").tolist() == [False, True]
    assert candidates.labels is labels


def test_load_follows_the_leases() -> None:
    view, leases = PoolView(max_age_s=10.0), LeaseTable()
    view.apply_snapshot(a_snapshot([an_endpoint(1), an_endpoint(2)]), NOW)
    table = a_table(view, leases)
    leases.reserve(Lease("l1", "edge", POOL, "e1", prompt_tokens=100, prefill_tokens=60), NOW)
    leases.reserve(Lease("l2", "edge", POOL, "10.0.0.1:8000", prefill_tokens=5), NOW)
    candidates = read(table, view)
    assert candidates.requests.tolist() == [2, 0]
    assert candidates.prefill_tokens.tolist() == [65, 0]
    leases.serve("l1", moved_to="e2")
    assert candidates.serving.tolist() == [0, 1]
    assert candidates.context_tokens.tolist() == [0, 100]
    leases.finish("l1")
    leases.finish("l2")
    assert candidates.requests.tolist() == [0, 0]
    assert candidates.prefill_tokens.tolist() == [0, 0]


def test_load_survives_a_change_of_endpoints() -> None:
    view, leases = PoolView(max_age_s=10.0), LeaseTable()
    view.apply_snapshot(a_snapshot([an_endpoint(1), an_endpoint(2)]), NOW)
    table = a_table(view, leases)
    leases.reserve(Lease("l1", "edge", POOL, "e2"), NOW)
    view.apply_snapshot(a_snapshot([an_endpoint(2), an_endpoint(3)], sequence=2), NOW)
    assert read(table, view).requests.tolist() == [1, 0]


def test_an_endpoint_that_is_not_ready_is_no_candidate() -> None:
    view, leases = PoolView(max_age_s=10.0), LeaseTable()
    view.apply_snapshot(a_snapshot([an_endpoint(1, ready=False), an_endpoint(2)]), NOW)
    table = a_table(view, leases)
    assert [one.uid for one in read(table, view).endpoints] == ["e2"]
    view.mark_unreachable(POOL, "e2", "connection refused")
    assert not read(table, view).endpoints


def test_a_selection_keeps_rows_together() -> None:
    candidates = candidates_of(
        [an_endpoint(1, waiting=1), an_endpoint(2, waiting=2, active_loras=["m"])], cached=[4, 5]
    )
    chosen = candidates.select(np.array([False, True]))
    assert [one.uid for one in chosen.endpoints] == ["e2"]
    assert chosen.waiting.tolist() == [2]
    assert chosen.cached_blocks.tolist() == [5]
    assert chosen.loras.active("m").tolist() == [True]


def test_an_endpoint_known_by_its_address_alone_counts_a_lease_once() -> None:
    endpoint = replace(an_endpoint(1), uid="10.0.0.1:8000")
    leases = LeaseTable()
    leases.reserve(Lease("l1", "edge", POOL, "10.0.0.1:8000", prefill_tokens=5), NOW)
    candidates = candidates_of([endpoint], leases=leases)
    assert candidates.requests.tolist() == [1]
    assert candidates.prefill_tokens.tolist() == [5]


@pytest.mark.parametrize(
    ("reported", "taken"), [(math.nan, None), (math.inf, None), (-0.5, 0.0), (1.5, 1.5)]
)
def test_a_cache_use_that_no_engine_has_does_no_harm(reported: float, taken: float | None) -> None:
    candidates = candidates_of([an_endpoint(1, kv=reported)])
    assert candidates.kv[0] == taken or (taken is None and math.isnan(candidates.kv[0]))


def test_the_youngest_of_several_metrics_does_not_hide_the_oldest() -> None:
    candidates = candidates_of([an_endpoint(1, read_at=NOW), an_endpoint(2, read_at=NOW - 6.0)])
    assert not candidates.all_believed
    assert candidates.freshness.tolist() == pytest.approx([1.0, 0.5])


def test_adapters_of_a_selection_are_those_of_its_endpoints() -> None:
    endpoints = [
        an_endpoint(1, active_loras=["a"], max_loras=1),
        an_endpoint(2, waiting_loras=["a"], max_loras=2),
        an_endpoint(3),
    ]
    chosen = candidates_of(endpoints).select(np.array([True, True, False]))
    chosen = chosen.select(np.array([False, True]))
    assert chosen.loras.active("a").tolist() == [False]
    assert chosen.loras.waiting("a").tolist() == [True]
    assert chosen.loras.has_free_slot().tolist() == [True]
