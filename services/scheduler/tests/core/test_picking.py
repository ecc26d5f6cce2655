from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_common.contract_codec import encode_metrics, pack_block_hashes
from pointsman_common.contracts.events_pb2 import Lease, RequestFinished, RequestPicked
from pointsman_common.contracts.pool_pb2 import MetricsUpdate, PoolDelta
from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.errors import SettingsError
from pointsman_common.testing.builders import POOL, a_pool_config, an_endpoint, an_envelope
from pointsman_scheduler.core.config import COST_CONFIG
from pointsman_scheduler.core.picking import StateLimits
from pointsman_scheduler.core.scheduler import Refusal
from pointsman_scheduler.testing import NOW, QK, Desk, a_config, decided, refusal, scores

FOUR = [an_endpoint(index) for index in range(1, 5)]


def test_a_burst_spreads_before_anything_is_measured() -> None:
    desk = Desk(FOUR, COST_CONFIG)
    counts: dict[str, int] = {}
    for number in range(40):
        uid = desk.where(lease_id=f"l{number}", prompt_tokens=1000)
        counts[uid] = counts.get(uid, 0) + 1
    assert counts == {"e1": 10, "e2": 10, "e3": 10, "e4": 10}


def test_the_default_policy_offers_fallbacks() -> None:
    pick = Desk(FOUR, COST_CONFIG).pick()
    assert len({one.uid for one in decided(pick).endpoints}) == 3


def test_the_pick_tells_tokens_and_seconds() -> None:
    desk = Desk(FOUR, COST_CONFIG)
    desk.pick(block_hashes=[1, 2], prompt_tokens=128)
    pick = desk.pick(block_hashes=[1, 2, 3], prompt_tokens=192)
    assert (pick.cached_blocks, pick.cached_tokens, pick.prefill_tokens) == (2, 128, 64)
    assert 0 < pick.predicted_ttft_s <= pick.predicted_cost_s


def test_the_last_prompt_token_is_always_computed() -> None:
    desk = Desk([an_endpoint(1)])
    desk.pick(block_hashes=[1, 2], prompt_tokens=128)
    pick = desk.pick(block_hashes=[1, 2], prompt_tokens=128)
    assert (pick.cached_tokens, pick.prefill_tokens) == (127, 1)


def test_a_bodiless_request_is_scheduled_like_any_other() -> None:
    desk = Desk([an_endpoint(1, kv=0.9), an_endpoint(2, kv=0.1)])
    pick = desk.pick(prompt_tokens=0, bodiless=True, lease_id="l1")
    assert decided(pick).endpoints[0].uid == "e2"
    assert (pick.cached_tokens, pick.prefill_tokens) == (0, 0)
    assert desk.leases.load("e2").requests == 1


def test_an_unknown_pool_has_no_endpoints() -> None:
    pick = Desk(FOUR).pick(pool="default/other")
    assert refusal(pick) is Refusal.NO_ENDPOINTS
    assert pick.request is None


def test_given_candidates_take_the_place_of_the_views() -> None:
    desk = Desk([an_endpoint(1), an_endpoint(2)])
    desk.pick(block_hashes=[1], lease_id="l1")
    given_ones = [an_endpoint(7, waiting=5), an_endpoint(2, waiting=0)]
    pick = desk.pick(given=given_ones, block_hashes=[1])
    assert decided(pick).endpoints[0].uid == "e2"
    assert set(scores(pick)) == {"e2", "e7"}
    assert refusal(desk.pick(given=given_ones, subset=["10.0.0.1"])) is Refusal.NO_ENDPOINTS


def test_the_seed_decides_between_equals() -> None:
    first = [Desk(FOUR, QK, seed=5).where() for _ in range(3)]
    assert len(set(first)) == 1
    assert {Desk(FOUR, QK, seed=seed).where() for seed in range(40)} == {"e1", "e2", "e3", "e4"}


def test_a_decision_made_again_with_its_seed_is_the_same() -> None:
    desk = Desk(FOUR, a_config("queue-scorer", "weighted-random-picker"))
    for _ in range(20):
        pick = desk.pick()
        assert pick.request is not None
        assert pick.candidates is not None
        again = desk.picking.pools[POOL].config.scheduler.schedule(pick.request, pick.candidates)
        assert again.runs["default"].picked == decided(pick).runs["default"].picked


def a_picked(
    uid: str, hashes: list[int], *, lease: str = "p1", decision: str = "peer-1", first: int = 0
) -> RequestPicked:
    return RequestPicked(
        lease=Lease(lease_id=lease, pool=POOL, endpoint_uid=uid, decision_id=decision),
        prompt_block_hashes=pack_block_hashes(hashes),
        first_block=first,
    )


def test_peers_picks_are_learnt_even_before_the_first_own() -> None:
    desk = Desk([an_endpoint(1), an_endpoint(2)])
    desk.picking.learn_pick(a_picked("e2", [1, 2]))
    desk.picking.learn_pick(a_picked("e2", [3], first=2))
    assert desk.pick(block_hashes=[1, 2, 3]).cached_blocks == 3


def test_events_of_what_is_not_known_are_ignored() -> None:
    desk = Desk([an_endpoint(1)])
    desk.picking.learn_pick(a_picked("e9", [1, 2]))
    stranger = a_picked("e1", [1, 2])
    stranger.lease.pool = "default/none"
    desk.picking.learn_pick(stranger)
    assert desk.pick(block_hashes=[1, 2]).cached_blocks == 0


def test_own_picks_are_not_learnt_twice_even_without_a_receipt() -> None:
    desk = Desk([an_endpoint(1)])
    desk.pick(lease_id="l1")
    desk.picking.learn_pick(a_picked("e1", [1, 2], lease="l1", decision=""))
    assert desk.pick(block_hashes=[1, 2]).cached_blocks == 0


def test_an_own_pick_that_went_elsewhere_is_learnt_there() -> None:
    desk = Desk([an_endpoint(1), an_endpoint(2)])
    uid = desk.where(lease_id="l1")
    other = "e2" if uid == "e1" else "e1"
    desk.picking.learn_pick(a_picked(other, [1, 2], lease="l1"))
    assert desk.where(block_hashes=[1, 2]) == other


def test_own_picks_that_no_edge_tells_of_are_forgotten_beyond_a_bound() -> None:
    desk = Desk([an_endpoint(1)], limits=StateLimits(own_picks=2))
    for number in range(3):
        desk.pick(lease_id=f"l{number}")
    desk.picking.learn_pick(a_picked("e1", [1], lease="l0"))
    desk.picking.learn_pick(a_picked("e1", [2], lease="l1"))
    assert desk.pick(block_hashes=[1]).cached_blocks == 1
    assert desk.pick(block_hashes=[2]).cached_blocks == 0


def test_a_pool_that_comes_back_begins_anew() -> None:
    desk = Desk([an_endpoint(1)], QK)
    desk.pick(block_hashes=[1, 2])
    desk.view.forget(POOL)
    assert not desk.picking.pools
    desk.view.apply_config(a_pool_config(sequence=5))
    desk.say([an_endpoint(2)])  # as many changes as before: the same version
    pick = desk.pick(block_hashes=[1, 2])
    assert decided(pick).endpoints[0].uid == "e2"
    assert pick.cached_blocks == 0


def test_the_index_follows_the_size_of_a_cache_that_is_reported_late() -> None:
    unknown = EndpointMetrics(read_at=NOW)
    desk = Desk([replace(an_endpoint(1), metrics=unknown)], a_config("prefix-cache-scorer"))
    desk.pick()
    metrics = EndpointMetrics(block_size_tokens=16, kv_cache_blocks=8, read_at=NOW)
    update = MetricsUpdate(uid="e1", metrics=encode_metrics(metrics, NOW))
    desk.view.apply_delta(PoolDelta(envelope=an_envelope(2), pool=POOL, metrics=[update]), NOW)
    desk.pick(block_hashes=range(10))
    assert desk.pick(block_hashes=range(10)).cached_blocks == 2  # 128 tokens in blocks of 64


def test_broken_block_lists_are_read_as_far_as_they_go() -> None:
    desk = Desk([an_endpoint(1)])
    pick = desk.pick(prompt_block_hashes=b"12345678" + b"123")
    assert pick.request is not None
    assert len(pick.request.block_hashes) == 1
    many = desk.pick(prompt_block_hashes=b"x" * 8_000_001)
    assert many.request is not None
    assert len(many.request.block_hashes) == 2048


def test_a_restarted_engine_holds_nothing() -> None:
    desk = Desk([an_endpoint(1)])
    desk.pick(block_hashes=[1])
    assert desk.pick(block_hashes=[1]).cached_blocks == 1
    desk.say([replace(an_endpoint(1), epoch=1)])
    assert desk.pick(block_hashes=[1]).cached_blocks == 0


def test_answer_lengths_are_learnt_by_model() -> None:
    desk = Desk([an_endpoint(1)])
    assert desk.pick().expected_output_tokens == 0
    desk.picking.learn_finish(RequestFinished(model="llama", output_tokens=400))
    desk.picking.learn_finish(RequestFinished(model="other", output_tokens=5))
    assert desk.pick().expected_output_tokens == 400
    assert desk.pick(max_output_tokens=50).expected_output_tokens == 50
    desk.picking.learn_finish(RequestFinished(model="llama", output_tokens=300))
    assert desk.pick().expected_output_tokens == 398


def test_a_published_configuration_wins_and_a_bad_one_changes_nothing() -> None:
    desk = Desk([an_endpoint(1, waiting=9), an_endpoint(2, kv=0.9)])
    before = desk.pick().config_hash
    desk.publish_config(a_config("queue-scorer"))
    assert {desk.where() for _ in range(5)} == {"e2"}
    after = desk.pick().config_hash
    assert after != before
    with pytest.raises(SettingsError, match="surprise"):
        desk.publish_config(a_config("surprise-scorer"))
    assert desk.pick().config_hash == after
    desk.publish_config("")
    assert desk.pick().config_hash == before


def test_no_leases_no_load_whatever_happened() -> None:
    desk = Desk(FOUR, COST_CONFIG)
    for number in range(20):
        desk.pick(lease_id=f"l{number}", prompt_tokens=10 * number)
    for number in range(20):
        desk.leases.serve(f"l{number}")
        desk.leases.finish(f"l{number}")
    pick = desk.pick()
    assert pick.candidates is not None
    for column in ("requests", "prefill_tokens", "prefilling", "serving", "context_tokens"):
        assert not getattr(pick.candidates, column).any()


ADDRESSES = [f"10.0.0.{index}:8000" for index in range(1, 7)]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([*ADDRESSES, "10.0.0.9:1"]), max_size=4),
    st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1)), min_size=6, max_size=6),
    st.sampled_from([COST_CONFIG, QK, a_config("weighted-random-picker")]),
)
def test_a_pick_is_always_within_the_subset(
    subset: list[str], states: list[tuple[int, float]], config: str
) -> None:
    endpoints = [
        an_endpoint(index, waiting=waiting, kv=kv)
        for index, (waiting, kv) in enumerate(states, start=1)
    ]
    pick = Desk(endpoints, config).pick(subset=subset, now=NOW)
    if set(subset) & set(ADDRESSES):
        assert {one.address for one in decided(pick).endpoints} <= set(subset)
    else:
        assert refusal(pick) is Refusal.NO_ENDPOINTS
