"""Deltas tell what changed, once; applied to a reader they give the state."""

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.contracts.pool_pb2 import PoolDelta, Regime, Scarcity
from pointsman_common.endpoint import Endpoint
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import POOL, an_endpoint, an_envelope
from pointsman_datalayer.core.pool_snapshot import PoolChanges, build_snapshot

NOW = 1_000.0


def changes(*told: Endpoint, regime: Regime | None = None) -> PoolChanges:
    changes = PoolChanges(refresh_s=0.1)
    changes.told_all(told, regime or Regime())
    return changes


def delta(known: PoolChanges, *now: Endpoint, regime: Regime | None = None) -> PoolDelta | None:
    return known.delta(POOL, now, regime or Regime(), NOW)


def test_nothing_changed_is_no_message() -> None:
    assert delta(changes(an_endpoint(1)), an_endpoint(1)) is None


def test_changed_metrics_are_told_alone_and_once() -> None:
    known = changes(an_endpoint(1), an_endpoint(2))
    busy = an_endpoint(2, waiting=5)
    message = delta(known, an_endpoint(1), busy)
    assert message is not None
    assert [update.uid for update in message.metrics] == ["e2"]
    assert message.metrics[0].metrics.waiting_requests == 5
    assert not message.upserted
    assert delta(known, an_endpoint(1), busy) is None


def test_an_endpoint_that_became_ready_is_told_whole() -> None:
    message = delta(changes(an_endpoint(1, ready=False)), an_endpoint(1))
    assert message is not None
    assert [endpoint.uid for endpoint in message.upserted] == ["e1"]
    assert not message.metrics


def test_an_endpoint_that_went_is_told_as_removed() -> None:
    message = delta(changes(an_endpoint(1), an_endpoint(2)), an_endpoint(2))
    assert message is not None
    assert message.removed == ["e1"]


def test_equal_metrics_are_told_again_only_when_the_told_ones_are_old() -> None:
    known = changes(an_endpoint(1, read_at=NOW - 1.0))
    assert delta(known, an_endpoint(1, read_at=NOW - 0.95)) is None
    message = delta(known, an_endpoint(1, read_at=NOW - 0.9))
    assert message is not None
    assert message.metrics[0].metrics.age_ms == 900


def test_a_regime_is_told_when_it_is_another_and_not_when_its_words_are() -> None:
    known = changes(regime=Regime(scarcity=Scarcity.SCARCITY_IDLE, reason="a", since_s=1))
    same = Regime(scarcity=Scarcity.SCARCITY_IDLE, reason="b", since_s=2)
    assert delta(known, regime=same) is None
    other = Regime(scarcity=Scarcity.SCARCITY_TIGHT, reason="c")
    message = delta(known, regime=other)
    assert message is not None
    assert message.regime == other


@given(st.integers(0, 1_000_000), st.integers(1, 30))
def test_a_reader_of_one_snapshot_and_all_deltas_knows_the_state(seed: int, steps: int) -> None:
    rng, view, state = Random(seed), PoolView(max_age_s=1.0), {1: an_endpoint(1)}
    known = changes(*state.values())
    snapshot = build_snapshot(POOL, state.values(), Regime(), "h", NOW)
    snapshot.envelope.CopyFrom(an_envelope(1))
    assert view.apply_snapshot(snapshot, NOW)
    sequence = 1
    for _ in range(steps):
        index = rng.randrange(4)
        if index in state and rng.random() < 0.3:
            del state[index]
        else:
            endpoint = an_endpoint(index, waiting=rng.randrange(3), ready=rng.random() < 0.8)
            state[index] = replace(endpoint, epoch=rng.randrange(2))
        message = delta(known, *state.values())
        if message is not None:
            sequence += 1
            message.envelope.CopyFrom(an_envelope(sequence))
            assert view.apply_delta(message, NOW)
    record = view.get(POOL)
    assert record is not None
    assert record.endpoints == {endpoint.uid: endpoint for endpoint in state.values()}
