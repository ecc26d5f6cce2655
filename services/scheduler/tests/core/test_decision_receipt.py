from typing import Any

import pytest

from pointsman_common.contracts.scheduling_pb2 import CandidateView, DecisionReceipt
from pointsman_common.decision_receipts import shown_candidates, unfold_receipts
from pointsman_common.testing.builders import an_endpoint, an_envelope
from pointsman_scheduler.core.candidate_sets import CandidateSets
from pointsman_scheduler.core.config import COST_CONFIG
from pointsman_scheduler.core.decision_receipt import ReceiptDraft, draft_receipt
from pointsman_scheduler.core.picking import Pick
from pointsman_scheduler.core.receipt_messages import DatedDraft, ReceiptMessages
from pointsman_scheduler.testing import QK, Desk, a_config, decided


def written(*drafts: ReceiptDraft) -> list[DecisionReceipt]:
    dated = [DatedDraft(draft, 1_700_000_000.5) for draft in drafts]
    messages = ReceiptMessages(CandidateSets())
    return unfold_receipts(messages.write(dated, envelope=an_envelope(3), now=0.0))


def receipt_of(pick: Pick) -> DecisionReceipt:
    [receipt] = written(draft_receipt(pick, 0.000_25))
    return receipt


def seen(receipt: DecisionReceipt) -> list[CandidateView]:
    return shown_candidates(receipt, receipt.candidate_set)


def picked(desk: Desk, **fields: Any) -> Pick:
    """A pick before its load is reserved."""
    return desk.picking.pick(desk.pick(**fields).descriptor, "lease-7", 1_000.25)


def test_it_tells_what_was_seen_scored_and_chosen() -> None:
    desk = Desk([an_endpoint(1, waiting=4, running=2, kv=0.5), an_endpoint(2)], QK)
    receipt = receipt_of(picked(desk, block_hashes=[1, 2]))
    assert receipt.decision_id == "desk-2"
    assert receipt.lease_id == "lease-7"
    assert [one.uid for one in receipt.chosen] == ["e2"]
    first, second = seen(receipt)
    assert (first.uid, first.waiting_requests, first.running_requests) == ("e1", 4, 2)
    assert (first.kv_cache_utilization, first.metrics_age_ms) == (0.5, 250)
    assert (first.total_score, second.total_score) == (0.5, 2.0)
    assert second.cached_blocks == 2
    queue, kv = receipt.plugins
    assert (queue.plugin, queue.weight, list(queue.scores)) == ("queue-scorer", 1.0, [0.0, 1.0])
    assert (kv.type, list(kv.scores)) == ("kv-cache-utilization-scorer", [0.5, 1.0])
    assert (receipt.state_publisher, receipt.state_sequence) == ("datalayer/test", 1)
    assert (receipt.state_age_ms, receipt.took_us) == (250, 250)
    assert receipt.seed
    assert receipt.config_hash
    assert not receipt.HasField("rejection")


def test_a_cost_is_told_in_seconds() -> None:
    prefill = an_endpoint(1, labels={"llm-d.ai/role": "prefill"})
    config = a_config("decode-filter", "predicted-latency-cost-scorer")
    pick = picked(Desk([prefill, an_endpoint(2), an_endpoint(3)], config))
    _, trace = receipt_of(pick).plugins
    assert trace.costs_s[0] == 0.0  # filtered out
    assert min(trace.costs_s[1:]) == pick.predicted_cost_s > 0.0
    [other] = receipt_of(picked(Desk([an_endpoint(1)], a_config("queue-scorer")))).plugins
    assert not other.costs_s


def test_filters_say_whom_they_kept() -> None:
    endpoints = [an_endpoint(1, labels={"llm-d.ai/role": "prefill"}), an_endpoint(2)]
    receipt = receipt_of(picked(Desk(endpoints, a_config("decode-filter", "queue-scorer"))))
    kept, scored = receipt.plugins
    assert list(kept.kept) == [False, True]
    assert list(scored.scores) == [0.0, 1.0]
    assert "(1 filtered out)" in receipt.reason


def test_a_refusal_has_its_receipt_too() -> None:
    receipt = receipt_of(Desk([an_endpoint(1)]).pick(subset=[]))
    assert receipt.rejection.http_status == 503
    assert not receipt.chosen
    assert receipt.reason == "failed to find endpoint candidates for serving the request"


def test_an_unknown_pool_has_its_receipt_too() -> None:
    receipt = receipt_of(Desk([]).pick(pool="default/none"))
    assert receipt.rejection.reason == "rejected-no-endpoints"
    assert receipt.state_age_ms == 0xFFFF_FFFF


def test_of_many_candidates_64_are_shown_and_the_chosen_are_among_them() -> None:
    endpoints = [an_endpoint(index, waiting=200 - index) for index in range(1, 201)]
    desk = Desk(endpoints, a_config("queue-scorer"))
    receipt = receipt_of(picked(desk))
    assert len(receipt.candidate_set.endpoints) == 200
    assert len(seen(receipt)) == 64
    assert receipt.chosen[0].uid == "e200"
    assert seen(receipt)[63].uid == "e200"
    [trace] = receipt.plugins
    assert len(trace.scores) == 64
    assert trace.scores[63] == 1.0


def test_the_load_shown_is_that_before_the_reservation() -> None:
    desk = Desk([an_endpoint(1)], COST_CONFIG)
    pick = desk.picking.pick(desk.pick(lease_id="a").descriptor, "b", 1_000.0)
    draft = draft_receipt(pick, 0.0)
    desk.picking.reserve(pick, 1_000.0)
    [receipt] = written(draft)
    assert seen(receipt)[0].in_flight_requests == 1
    assert desk.leases.load("e1").requests == 2


def test_the_reason_tells_seconds_where_they_are_predicted() -> None:
    desk = Desk([an_endpoint(1), an_endpoint(2)], COST_CONFIG)
    pick = picked(desk, prompt_tokens=640, block_hashes=range(10))
    reason = receipt_of(pick).reason
    assert decided(pick).endpoints[0].address in reason
    assert f"{pick.predicted_cost_s:.4g} s" in reason
    assert "holds 639 of 640 prompt tokens" in reason


@pytest.mark.parametrize("size", [1, 2])
def test_ties_are_told(size: int) -> None:
    desk = Desk([an_endpoint(index) for index in range(size)], QK)
    assert ("one of 2 as good" in receipt_of(picked(desk)).reason) == (size == 2)


def test_only_the_block_hashes_that_were_matched_are_told() -> None:
    pick = Desk([an_endpoint(1)]).pick(prompt_block_hashes=b"x" * 80_003)
    assert len(receipt_of(pick).descriptor.prompt_block_hashes) == 2048 * 8
