"""The cases of upstream's behaviour that are the scheduler's to get right, without a network."""

from typing import Any

import pytest

from pointsman_common.endpoint_picker_config import DEFAULT_CONFIG
from pointsman_common.testing.builders import an_endpoint
from pointsman_scheduler.core.scheduler import Refusal
from pointsman_scheduler.testing import QK, Desk, a_config, decided, refusal, scores

THREE = [
    an_endpoint(1, waiting=3, kv=0.2),
    an_endpoint(2, waiting=0, kv=0.1),
    an_endpoint(3, waiting=10, kv=0.2),
]
SUBSET_THREE = [
    an_endpoint(1, waiting=0, kv=0.2),
    an_endpoint(2, waiting=0, kv=0.1),
    an_endpoint(3, waiting=10, kv=0.2),
]


def test_1_the_best_of_three_is_picked() -> None:
    assert Desk(THREE, QK).where() == "e2"


def test_23_two_endpoints_come_in_order() -> None:
    picker = {"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": 2}}
    desk = Desk(THREE, a_config("queue-scorer", "kv-cache-utilization-scorer", picker))
    assert [one.uid for one in decided(desk.pick()).endpoints] == ["e2", "e1"]


def test_29_the_default_scores_of_a_cold_prompt() -> None:
    pick = Desk(THREE).pick(block_hashes=[1, 2])
    assert scores(pick) == pytest.approx({"e1": 3.0, "e2": 3.8, "e3": 1.6}, abs=1e-9)


@pytest.mark.parametrize("config", [DEFAULT_CONFIG, QK])
def test_39_no_endpoint_at_all_is_refused(config: str) -> None:
    assert refusal(Desk([], config).pick()) is Refusal.NO_ENDPOINTS


def test_40_filters_that_leave_none_are_refused_as_saturation() -> None:
    desk = Desk([an_endpoint(1, labels={"llm-d.ai/role": "prefill"})], a_config("decode-filter"))
    assert refusal(desk.pick()) is Refusal.FILTERED


def test_46_a_cold_prompt_that_must_be_cached_is_refused() -> None:
    desk = Desk([an_endpoint(1), an_endpoint(2)])
    assert refusal(desk.pick(block_hashes=[7], cached_only=True)) is Refusal.NOT_CACHED


def test_47_a_warm_prompt_that_must_be_cached_goes_where_it_is() -> None:
    desk = Desk([an_endpoint(1), an_endpoint(2)])
    holder = desk.where(block_hashes=[7])
    assert {desk.where(block_hashes=[7], cached_only=True) for _ in range(10)} == {holder}


@pytest.mark.parametrize(
    ("subset", "goes_to"),
    [
        (["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"], "e2"),
        (["10.0.0.3:8000"], "e3"),
        (["10.0.0.3"], "e3"),
        (None, "e2"),
    ],
)
def test_50_to_58_the_subset_limits_the_candidates(subset: Any, goes_to: str) -> None:
    assert Desk(SUBSET_THREE, QK).where(subset=subset) == goes_to


@pytest.mark.parametrize("subset", [["10.0.0.99:8000"], [], ["10.0.0.3:9999"]])
def test_52_53_55_a_subset_without_an_endpoint_is_refused(subset: list[str]) -> None:
    assert refusal(Desk(SUBSET_THREE, QK).pick(subset=subset)) is Refusal.NO_ENDPOINTS


def test_70_a_resident_adapter_beats_a_free_cache() -> None:
    config = a_config(
        "queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer", "lora-affinity-scorer"
    )
    desk = Desk(
        [
            an_endpoint(1, waiting=10, kv=0.2, active_loras=["foo", "bar"], max_loras=2),
            an_endpoint(2, waiting=10, kv=0.4, active_loras=["foo", "m"], max_loras=2),
            an_endpoint(3, waiting=10, kv=0.3, active_loras=["foo"], max_loras=2),
        ],
        config,
    )
    pick = desk.pick(model="m", block_hashes=[1])
    assert decided(pick).endpoints[0].uid == "e2"
    assert scores(pick) == pytest.approx({"e1": 1.8, "e2": 2.6, "e3": 2.5})


def test_71_adapters_score_in_four_tiers() -> None:
    desk = Desk(
        [
            an_endpoint(1, active_loras=["m"], max_loras=2),
            an_endpoint(2, active_loras=["foo"], max_loras=2),
            an_endpoint(3, active_loras=["foo", "bar"], waiting_loras=["m"], max_loras=2),
            an_endpoint(4, active_loras=["foo", "bar"], max_loras=2),
        ],
        a_config("lora-affinity-scorer"),
    )
    assert scores(desk.pick(model="m")) == {"e1": 1.0, "e2": 0.8, "e3": 0.6, "e4": 0.0}


def test_103_a_prompt_goes_back_to_where_it_was() -> None:
    desk = Desk([an_endpoint(1), an_endpoint(2)])
    blocks = list(range(1, 9))
    first = desk.pick(block_hashes=blocks)
    again = desk.pick(block_hashes=blocks)
    where = decided(first).endpoints[0].uid
    assert decided(again).endpoints[0].uid == where
    assert scores(again)[where] - scores(first)[where] == pytest.approx(3.0)


def test_104_another_models_hashes_share_no_prefix() -> None:
    desk = Desk([an_endpoint(1), an_endpoint(2)])
    first = desk.pick(block_hashes=[1, 2, 3])
    other = desk.pick(block_hashes=[11, 12, 13])
    assert max(scores(other).values()) == max(scores(first).values())


def test_106_a_capped_match_is_full_when_its_blocks_are() -> None:
    producer = {
        "type": "approx-prefix-cache-producer",
        "parameters": {"maxPrefixTokensToMatch": 128},
    }
    desk = Desk(
        [an_endpoint(1), an_endpoint(2)],
        a_config(producer, "prefix-cache-scorer", weights={"prefix-cache-scorer": 3.0}),
    )
    where = desk.where(block_hashes=[1, 2, 3, 4])
    again = desk.pick(block_hashes=[1, 2, 33, 44])
    assert decided(again).endpoints[0].uid == where
    assert scores(again)[where] == pytest.approx(3.0)


def test_107_open_requests_spread_evenly() -> None:
    desk = Desk([an_endpoint(1), an_endpoint(2)], a_config("active-request-scorer"))
    counts = {"e1": 0, "e2": 0}
    for number in range(5):
        counts[desk.where(lease_id=f"l{number}")] += 1
        assert abs(counts["e1"] - counts["e2"]) <= 1
