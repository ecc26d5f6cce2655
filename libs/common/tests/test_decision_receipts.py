"""Reading receipts: unfolding, what they share, and what people are shown."""

import math
import struct

import pytest
from google.protobuf.message import DecodeError

from pointsman_common.contracts.pool_pb2 import Endpoint
from pointsman_common.contracts.scheduling_pb2 import (
    CandidateSet,
    CandidateView,
    DecisionInputs,
    DecisionReceipt,
    PluginTrace,
)
from pointsman_common.decision_receipts import SharedParts, shown_candidates, unfold_receipts

COLUMNS = ("waiting_requests", "kv_cache_utilization", "read_at_s", "prefill_tokens")


def a_set(name: str = "s1", *, size: int = 2) -> CandidateSet:
    endpoints = [Endpoint(uid=f"e{row}", address=f"10.0.0.{row}:8000") for row in range(size)]
    return CandidateSet(hash=name, endpoints=endpoints, columns=COLUMNS)


def a_receipt(*values: float, candidate_set: str = "s1", **fields: object) -> DecisionReceipt:
    packed = struct.pack(f"<{len(values)}d", *values)
    inputs = DecisionInputs(candidate_set=candidate_set, columns=packed, now_s=100.0)
    return DecisionReceipt(inputs=inputs, **fields)  # type: ignore[arg-type]  # a message's own


def test_a_message_unfolds_into_its_receipts_in_order() -> None:
    message = DecisionReceipt(decision_id="d1")
    message.further.add(decision_id="d2")
    message.further.add(decision_id="d3").further.add(decision_id="nested")
    receipts = unfold_receipts(message.SerializeToString())
    assert [one.decision_id for one in receipts] == ["d1", "d2", "d3"]
    assert not any(one.further for one in receipts)
    with pytest.raises(DecodeError):
        unfold_receipts(b"\xff")


def test_candidates_are_shown_as_they_were_seen() -> None:
    traces = [
        PluginTrace(profile="decode", weight=2.0, scores=[0.5, 1.0]),
        PluginTrace(profile="decode", weight=1.0, scores=[1.0, 0.0]),
        PluginTrace(profile="prefill", weight=9.0, scores=[1.0, 1.0]),
    ]
    receipt = a_receipt(3, math.nan, 0.5, math.nan, 99.75, -math.inf, 640, 0, plugins=traces)
    receipt.profile = "decode"
    first, second = shown_candidates(receipt, a_set())
    assert (first.uid, first.address) == ("e0", "10.0.0.0:8000")
    assert (first.waiting_requests, first.in_flight_tokens) == (3, 640)
    assert (first.kv_cache_utilization, first.metrics_age_ms) == (0.5, 250)
    assert (second.waiting_requests, second.kv_cache_utilization) == (0, 0.0)
    assert second.metrics_age_ms == 0xFFFF_FFFF
    assert (first.total_score, second.total_score) == (2.0, 2.0)


def test_only_the_candidates_that_the_traces_tell_of_are_shown() -> None:
    receipt = a_receipt(*range(12))
    receipt.inputs.shown = struct.pack("<2I", 0, 2)
    shown = shown_candidates(receipt, a_set(size=3))
    assert [(one.uid, one.waiting_requests) for one in shown] == [("e0", 0), ("e2", 2)]


def test_columns_are_read_in_each_of_their_encodings() -> None:
    packed = struct.pack("<2H1d2d2I", 1, 65_535, 0.25, 1.5, math.nan, 0, 1 << 31)
    receipt = DecisionReceipt(
        inputs=DecisionInputs(candidate_set="s1", encoding="HcdI", columns=packed)
    )
    first, second = shown_candidates(receipt, a_set())
    assert (first.waiting_requests, second.waiting_requests) == (1, 65_535)
    assert (first.kv_cache_utilization, second.kv_cache_utilization) == (0.25, 0.25)
    assert second.in_flight_tokens == 1 << 31


@pytest.mark.parametrize(
    ("encoding", "columns", "shown"),
    [
        ("", bytes(63), b""),
        ("", bytes(65), b""),
        ("ddd", bytes(64), b""),
        ("dddx", bytes(64), b""),
        ("", bytes(64), struct.pack("<I", 2)),
        ("", bytes(64), b"\0\0\0"),
    ],
)
def test_damaged_inputs_are_refused(encoding: str, columns: bytes, shown: bytes) -> None:
    inputs = DecisionInputs(encoding=encoding, columns=columns, shown=shown)
    with pytest.raises(ValueError, match=r"."):
        shown_candidates(DecisionReceipt(inputs=inputs), a_set())


def test_views_of_a_scheduler_that_packs_nothing_are_shown_as_they_are() -> None:
    view = CandidateView(uid="e9", total_score=1.5)
    assert shown_candidates(DecisionReceipt(candidates=[view]), CandidateSet()) == [view]


def test_what_was_told_once_completes_the_receipts_that_name_it() -> None:
    shared = SharedParts()
    shared.keep(_telling("s1", "c1"))
    later = a_receipt(candidate_set="s1", config_hash="c1", decision_id="d2")
    whole = shared.complete(later)
    assert (whole.decision_id, whole.endpoint_picker_config) == ("d2", "text of c1")
    assert whole.candidate_set == a_set("s1")
    assert not later.HasField("candidate_set")
    assert not shared.complete(later, most_bytes=1).HasField("candidate_set")
    unknown = shared.complete(a_receipt(candidate_set="s9", config_hash="c9"))
    assert not unknown.HasField("candidate_set")
    assert not unknown.endpoint_picker_config


def test_what_nobody_names_any_more_is_forgotten_by_number_and_by_bytes() -> None:
    shared = SharedParts(capacity=3)
    for number in range(5):
        shared.keep(_telling(f"s{number}", f"c{number}"))
        shared.keep(a_receipt(candidate_set="s0", config_hash="c0"))
    known = [n for n in range(5) if shared.candidate_set(a_receipt(candidate_set=f"s{n}"))]
    assert known == [0, 3, 4]
    assert [n for n in range(5) if shared.config(f"c{n}")] == [0, 3, 4]
    small = SharedParts(capacity_bytes=400)
    for number in range(50):
        small.keep(_telling(f"s{number}", f"c{number}"))
    assert small.config("c49")
    assert not small.config("c1")


def _telling(candidate_set: str, config: str) -> DecisionReceipt:
    receipt = a_receipt(candidate_set=candidate_set, config_hash=config)
    receipt.candidate_set.CopyFrom(a_set(candidate_set))
    receipt.endpoint_picker_config = f"text of {config}"
    return receipt
