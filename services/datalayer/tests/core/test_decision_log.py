"""Looking decisions up, and forgetting the oldest."""

import struct

from pointsman_common.contracts.events_pb2 import RequestFinished
from pointsman_common.contracts.pool_pb2 import Endpoint
from pointsman_common.contracts.scheduling_pb2 import (
    CandidateSet,
    CandidateView,
    DecisionInputs,
    DecisionReceipt,
)
from pointsman_common.testing.builders import POOL, a_descriptor
from pointsman_datalayer.core.decision_log import Decision, DecisionLog


def a_receipt(number: int, *, request: str = "", pool: str = POOL) -> DecisionReceipt:
    descriptor = a_descriptor(request or f"r{number}", pool=pool)
    return DecisionReceipt(decision_id=f"d{number}", lease_id=f"l{number}", descriptor=descriptor)


def ids(log: DecisionLog, limit: int = 10, pool: str = POOL) -> list[str]:
    return [decision.receipt.decision_id for decision in log.recent(pool, limit)]


def test_the_newest_come_first_and_of_their_pool_only() -> None:
    log = DecisionLog()
    for number in range(4):
        log.add(a_receipt(number, pool=POOL if number != 2 else "default/other"), 100)
    assert ids(log) == ["d3", "d1", "d0"]
    assert ids(log, limit=2) == ["d3", "d1"]
    assert ids(log, limit=0) == []


def test_a_decision_is_found_by_its_id_and_by_its_request() -> None:
    log = DecisionLog()
    log.add(a_receipt(1), 100)
    log.add(a_receipt(2, request="r1"), 100)
    for key, wanted in (("d1", "d1"), ("r1", "d2")):
        found = log.find(POOL, key)
        assert found is not None
        assert found.receipt.decision_id == wanted
    assert log.find(POOL, "d9") is None
    assert log.find("default/other", "d1") is None


def test_a_finish_is_kept_with_its_decision() -> None:
    log = DecisionLog()
    log.add(a_receipt(1), 100)
    assert log.finish(RequestFinished(lease_id="l1", http_status=200)) is not None
    assert log.finish(RequestFinished(lease_id="l9")) is None
    found = log.find(POOL, "d1")
    assert found is not None
    assert found.finished is not None
    assert found.finished.http_status == 200


def test_the_oldest_go_by_number_and_by_bytes() -> None:
    log = DecisionLog(capacity=3, capacity_bytes=1000)
    for number in range(5):
        log.add(a_receipt(number), 100)
    assert ids(log) == ["d4", "d3", "d2"]
    log.add(a_receipt(5), 900)
    assert ids(log) == ["d5", "d4"]
    assert log.find(POOL, "r3") is None
    assert log.finish(RequestFinished(lease_id="l3")) is None


def test_the_same_decision_twice_is_held_once() -> None:
    log = DecisionLog(capacity=3)
    for _ in range(5):
        log.add(a_receipt(1), 100)
    assert ids(log) == ["d1"]


def test_what_many_receipts_share_is_told_once_and_shown_with_each() -> None:
    log = DecisionLog()
    told, naming = a_receipt(1), a_receipt(2)
    for receipt in (told, naming):
        receipt.config_hash = "c1"
        receipt.inputs.CopyFrom(DecisionInputs(candidate_set="s1", columns=struct.pack("<d", 7)))
    endpoints = [Endpoint(uid="e1", address="10.0.0.1:8000")]
    told.candidate_set.CopyFrom(
        CandidateSet(hash="s1", endpoints=endpoints, columns=["waiting_requests"])
    )
    told.endpoint_picker_config = "kind: EndpointPickerConfig"
    log.add(told, 100)
    log.add(naming, 100)
    for number in (1, 2):
        found = log.find(POOL, f"d{number}")
        assert found is not None
        assert found.candidates == 1
        assert not found.receipt.HasField("candidate_set")
        shown = log.completed(found).receipt
        assert shown.endpoint_picker_config == "kind: EndpointPickerConfig"
        view = CandidateView(uid="e1", address="10.0.0.1:8000", waiting_requests=7)
        assert list(shown.candidates) == [view]
        stored = DecisionReceipt.FromString(log.stored_form(found.receipt))
        assert stored.candidate_set.endpoints[0].uid == "e1"


def test_damaged_inputs_of_a_foreign_scheduler_are_shown_without_candidates() -> None:
    log, receipt = DecisionLog(), a_receipt(1)
    receipt.inputs.CopyFrom(DecisionInputs(candidate_set="s1", columns=b"xyz"))
    receipt.candidate_set.CopyFrom(CandidateSet(hash="s1", endpoints=[Endpoint()], columns=["a"]))
    assert not log.completed(Decision(receipt, 1)).receipt.candidates
