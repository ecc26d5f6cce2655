import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.contract_codec import encode_endpoint, encode_metrics
from pointsman_common.contracts import pool_pb2
from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_common.inference_pool import InferencePool
from pointsman_common.pool_view import PoolRecord, PoolView
from pointsman_common.testing.builders import (
    POOL,
    a_pool_config,
    a_snapshot,
    an_endpoint,
    an_envelope,
)

NOW = 1_000.0


def a_delta(
    sequence: int,
    *,
    upserted: tuple[Endpoint, ...] = (),
    removed: tuple[str, ...] = (),
    waiting: dict[str, int] | None = None,
    publisher: str = "datalayer/test",
    epoch: int = 1,
) -> pool_pb2.PoolDelta:
    return pool_pb2.PoolDelta(
        envelope=an_envelope(sequence, publisher=publisher, epoch=epoch),
        pool=POOL,
        upserted=[encode_endpoint(endpoint, NOW) for endpoint in upserted],
        removed=removed,
        metrics=[
            pool_pb2.MetricsUpdate(
                uid=uid, metrics=encode_metrics(EndpointMetrics(waiting_requests=count), NOW)
            )
            for uid, count in (waiting or {}).items()
        ],
    )


def a_view() -> PoolView:
    return PoolView(max_age_s=2.0)


def record(view: PoolView) -> PoolRecord:
    found = view.get(POOL)
    assert found is not None
    return found


def waiting(view: PoolView) -> dict[str, int | None]:
    return {uid: item.metrics.waiting_requests for uid, item in record(view).endpoints.items()}


def test_a_snapshot_and_its_deltas_give_the_state() -> None:
    view = a_view()
    view.apply_snapshot(a_snapshot([an_endpoint(1), an_endpoint(2)], sequence=4), NOW)
    assert view.apply_delta(a_delta(5, waiting={"e1": 7, "unknown": 1}), NOW)
    assert view.apply_delta(a_delta(6, upserted=(an_endpoint(3),), removed=("e2",)), NOW)
    assert waiting(view) == {"e1": 7, "e3": 0}
    assert record(view).sequence == 6


def test_a_metrics_update_replaces_all_of_an_endpoints_metrics_and_nothing_else() -> None:
    view = a_view()
    view.apply_snapshot(a_snapshot([an_endpoint(1, kv=0.5)]), NOW)
    view.apply_delta(a_delta(2, waiting={"e1": 7}), NOW)
    endpoint = record(view).endpoints["e1"]
    assert endpoint.metrics == EndpointMetrics(waiting_requests=7)
    assert replace(endpoint, metrics=an_endpoint(1, kv=0.5).metrics) == an_endpoint(1, kv=0.5)


def test_a_gap_asks_for_a_snapshot_until_one_comes() -> None:
    view = a_view()
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=1), NOW)
    assert not view.apply_delta(a_delta(3, waiting={"e1": 3}), NOW)
    assert not view.apply_delta(a_delta(4, waiting={"e1": 4}), NOW)
    assert waiting(view) == {"e1": 0}
    view.apply_snapshot(a_snapshot([an_endpoint(1, waiting=5)], sequence=5), NOW)
    assert view.apply_delta(a_delta(6, waiting={"e1": 6}), NOW)
    assert waiting(view) == {"e1": 6}


def test_deltas_that_overtook_a_snapshot_are_applied_after_it() -> None:
    view = a_view()
    assert not view.apply_delta(a_delta(6, waiting={"e1": 6}), NOW)
    assert not view.apply_delta(a_delta(7, waiting={"e1": 7}), NOW)
    assert not view.is_known()
    view.apply_snapshot(a_snapshot([an_endpoint(1, waiting=5)], sequence=5), NOW)
    assert waiting(view) == {"e1": 7}
    assert view.apply_delta(a_delta(8, waiting={"e1": 8}), NOW)


def test_a_delta_that_overtook_its_neighbour_waits_for_it() -> None:
    view = a_view()
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=1), NOW)
    assert not view.apply_delta(a_delta(3, waiting={"e1": 3}), NOW)
    assert view.apply_delta(a_delta(2, waiting={"e1": 2}), NOW)
    assert waiting(view) == {"e1": 3}


def test_a_delta_that_waited_keeps_the_age_it_came_with() -> None:
    view = a_view()
    metrics = EndpointMetrics(waiting_requests=1, read_at=NOW - 0.5)
    early = a_delta(3)
    early.metrics.add(uid="e1", metrics=encode_metrics(metrics, NOW))
    view.apply_delta(early, NOW)
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=2), NOW + 1.0)
    assert record(view).endpoints["e1"].metrics.age_s(NOW + 1.0) == pytest.approx(1.5)


def test_repeated_and_overtaken_messages_change_nothing() -> None:
    view = a_view()
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=3), NOW)
    view.apply_delta(a_delta(4, waiting={"e1": 4}), NOW)
    version = record(view).version
    assert view.apply_delta(a_delta(4, waiting={"e1": 9}), NOW)
    assert view.apply_delta(a_delta(2, waiting={"e1": 9}), NOW)
    assert not view.apply_snapshot(a_snapshot([], sequence=3), NOW)
    assert waiting(view) == {"e1": 4}
    assert record(view).version == version


def test_each_publisher_of_a_pool_is_followed_by_its_own_sequence() -> None:
    view = a_view()
    other = a_snapshot([an_endpoint(1)], sequence=50)
    other.envelope.publisher = "datalayer/other"
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=1), NOW)
    view.apply_snapshot(other, NOW)
    assert view.apply_delta(a_delta(2, waiting={"e1": 2}), NOW)
    assert view.apply_delta(a_delta(51, waiting={"e1": 51}, publisher="datalayer/other"), NOW)
    assert waiting(view) == {"e1": 51}
    assert not view.apply_delta(a_delta(53, publisher="datalayer/other"), NOW)
    assert view.apply_delta(a_delta(3, waiting={"e1": 3}), NOW)


def test_a_publisher_that_started_again_is_followed_from_its_first_snapshot() -> None:
    view = a_view()
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=90), NOW)
    assert not view.apply_delta(a_delta(2, waiting={"e1": 2}, epoch=2), NOW)
    again = a_snapshot([an_endpoint(1, waiting=1)], sequence=1)
    again.envelope.epoch = 2
    view.apply_snapshot(again, NOW)
    assert waiting(view) == {"e1": 2}
    assert view.apply_delta(a_delta(91, waiting={"e1": 91}), NOW), "of the life before: old"
    assert waiting(view) == {"e1": 2}


def test_what_is_lost_for_good_does_not_pile_up() -> None:
    view = PoolView(max_age_s=2.0, deltas_ahead=3)
    for sequence in range(10, 20):
        view.apply_delta(a_delta(sequence, waiting={"e1": sequence}), NOW)
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=16), NOW)
    assert waiting(view) == {"e1": 19}


def test_the_age_of_a_pool_is_counted_from_its_last_state() -> None:
    view = a_view()
    assert view.age_s(POOL, NOW) == float("inf")
    view.apply_config(a_pool_config())
    assert view.age_s(POOL, NOW) == float("inf")
    assert not view.is_known()
    view.apply_snapshot(a_snapshot([]), NOW)
    assert view.age_s(POOL, NOW + 1.5) == 1.5
    view.apply_delta(a_delta(2), NOW + 1.5)
    assert view.age_s(POOL, NOW + 1.5) == 0.0
    assert view.is_known()


def test_a_view_is_fresh_while_one_pool_is() -> None:
    view = a_view()
    assert not view.is_fresh(NOW)
    view.apply_snapshot(a_snapshot([]), NOW)
    assert view.is_fresh(NOW + 2.0)
    assert not view.is_fresh(NOW + 2.1)
    view.apply_snapshot(a_snapshot([], pool="default/other"), NOW + 2.1)
    assert view.is_fresh(NOW + 2.1), "a pool that was taken away must not hold up the others"


def test_ages_of_metrics_are_counted_on_the_readers_clock() -> None:
    view = a_view()
    snapshot = a_snapshot([an_endpoint(1, read_at=999.5)], now=1_000.0)
    view.apply_snapshot(snapshot, 77.0)
    assert record(view).endpoints["e1"].metrics.age_s(78.0) == pytest.approx(1.5)


def test_a_configuration_is_taken_over_unless_it_is_an_older_one_of_its_publisher() -> None:
    view = a_view()
    newer, older = InferencePool(name=POOL, hash="new"), InferencePool(name=POOL, hash="old")
    assert view.apply_config(a_pool_config(newer, sequence=2))
    assert not view.apply_config(a_pool_config(newer, sequence=3))
    assert not view.apply_config(a_pool_config(older, sequence=1))
    assert record(view).config == newer


def test_versions_grow_with_changes_and_membership_only_with_those_of_endpoints() -> None:
    view = a_view()
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=1), NOW)
    before = (record(view).version, record(view).membership_version)
    view.apply_delta(a_delta(2, waiting={"e1": 2}), NOW)
    view.apply_snapshot(a_snapshot([an_endpoint(1, waiting=3)], sequence=3), NOW)
    assert (record(view).version, record(view).membership_version) == (before[0] + 2, before[1])
    view.apply_delta(a_delta(4, upserted=(an_endpoint(2),)), NOW)
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=5), NOW)
    assert record(view).membership_version == before[1] + 2


def test_listeners_hear_of_each_change_by_the_pools_name() -> None:
    view, heard = a_view(), list[str]()
    view.on_change(heard.append)
    view.apply_config(a_pool_config())
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=1), NOW)
    view.apply_delta(a_delta(2, waiting={"e1": 2}), NOW)
    view.apply_delta(a_delta(2, waiting={"e1": 2}), NOW)
    view.apply_delta(a_delta(5), NOW)
    view.mark_unreachable(POOL, "e1", "connection refused")
    view.mark_unreachable(POOL, "e1", "connection refused")
    assert heard == [POOL] * 4


def test_an_unreachable_endpoint_is_not_ready_until_the_datalayer_speaks_again() -> None:
    view = a_view()
    view.apply_snapshot(a_snapshot([an_endpoint(1), an_endpoint(2)], sequence=1), NOW)
    view.mark_unreachable(POOL, "e1", "connection refused")
    view.mark_unreachable(POOL, "e9", "nobody")
    view.mark_unreachable("default/other", "e1", "nobody")
    assert [endpoint.uid for endpoint in record(view).ready_endpoints()] == ["e2"]
    assert record(view).endpoints["e1"].not_ready_reason == "connection refused"
    view.apply_delta(a_delta(2, upserted=(an_endpoint(1),)), NOW)
    assert {endpoint.uid for endpoint in record(view).ready_endpoints()} == {"e1", "e2"}


def test_a_forgotten_pool_is_gone_and_may_come_again() -> None:
    view, heard = a_view(), list[str]()
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=5), NOW)
    view.on_change(heard.append)
    view.forget(POOL)
    view.forget(POOL)
    assert (view.get(POOL), list(view.pools()), heard) == (None, [], [POOL])
    assert view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=5), NOW)


def test_a_pool_that_is_told_to_be_gone_is_forgotten_until_a_snapshot_brings_it_back() -> None:
    view, heard = a_view(), list[str]()
    view.apply_snapshot(a_snapshot([an_endpoint(1)]), NOW)
    view.on_change(heard.append)
    gone = a_snapshot([], sequence=3)
    gone.gone = True
    assert view.apply_snapshot(gone, NOW)
    assert (view.get(POOL), heard) == (None, [POOL])
    assert view.apply_delta(a_delta(2, upserted=(an_endpoint(2),)), NOW), "it is of before"
    assert view.apply_delta(a_delta(4, upserted=(an_endpoint(2),)), NOW), "nothing is to be asked"
    assert not view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=2), NOW), "it is of before"
    assert view.get(POOL) is None
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=5), NOW)
    assert list(record(view).endpoints) == ["e1"]


def test_a_regime_stays_until_a_message_brings_another() -> None:
    view = a_view()
    snapshot = a_snapshot([an_endpoint(1)], sequence=1)
    snapshot.regime.reason = "idle"
    view.apply_snapshot(snapshot, NOW)
    view.apply_delta(a_delta(2), NOW)
    assert record(view).regime.reason == "idle"
    changed = a_delta(3)
    changed.regime.reason = "busy"
    view.apply_delta(changed, NOW)
    assert record(view).regime.reason == "busy"


@given(st.integers(0, 2**32), st.integers(1, 25), st.integers(0, 24))
def test_in_whatever_order_messages_come_the_last_snapshot_and_later_deltas_decide(
    seed: int, deltas: int, snapshot_after: int
) -> None:
    snapshot_after = min(snapshot_after, deltas)
    messages: list[pool_pb2.PoolDelta | pool_pb2.PoolSnapshot] = [
        a_delta(sequence, waiting={"e1": sequence}) for sequence in range(1, deltas + 1)
    ]
    messages.append(a_snapshot([an_endpoint(1, waiting=snapshot_after)], sequence=snapshot_after))
    rng = random.Random(seed)
    rng.shuffle(messages)
    messages += rng.sample(messages, k=len(messages) // 2)  # some come twice
    view = a_view()
    for message in messages:
        if isinstance(message, pool_pb2.PoolDelta):
            view.apply_delta(message, NOW)
        else:
            view.apply_snapshot(message, NOW)
    assert waiting(view) == {"e1": deltas}
