"""A decision made again from its receipt is the same, to the last bit."""

from dataclasses import fields
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_common.contracts.scheduling_pb2 import CandidateSet, DecisionReceipt
from pointsman_common.endpoint import Endpoint
from pointsman_common.testing.builders import a_descriptor, an_endpoint, an_envelope
from pointsman_scheduler.core.candidate_sets import CandidateSets
from pointsman_scheduler.core.candidates import COLUMNS, Candidates
from pointsman_scheduler.core.config import COST_CONFIG, compile_config
from pointsman_scheduler.core.decision_inputs import COLUMN_NAMES, InputsError
from pointsman_scheduler.core.decision_receipt import draft_receipt
from pointsman_scheduler.core.decision_replay import Replayed, differences, replay
from pointsman_scheduler.core.picking import Pick
from pointsman_scheduler.core.receipt_messages import DatedDraft, ReceiptMessages
from pointsman_scheduler.core.scheduler import Decision
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.catalogue import PLUGINS
from pointsman_scheduler.testing import QK, Desk, a_config, decided

NO_HIT_LRU = a_config("no-hit-lru-scorer", "queue-scorer", weights={"no-hit-lru-scorer": 3.0})
SESSIONS = a_config(
    {"type": "session-affinity-scorer", "parameters": {"strategy": "session_id"}},
    "active-request-scorer",
)
DISAGGREGATED = yaml.safe_dump(
    {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [
            {"type": "decode-filter"},
            {"type": "prefill-filter"},
            {"type": "predicted-latency-cost-scorer"},
            {"type": "always-disagg-pd-decider"},
            {
                "type": "disagg-profile-handler",
                "parameters": {"deciders": {"prefill": "always-disagg-pd-decider"}},
            },
        ],
        "schedulingProfiles": [
            {
                "name": name,
                "plugins": [
                    {"pluginRef": f"{name}-filter"},
                    {"pluginRef": "predicted-latency-cost-scorer"},
                ],
            }
            for name in ("decode", "prefill")
        ],
    }
)
CONFIGS = (
    DISAGGREGATED,
    COST_CONFIG,
    QK,
    NO_HIT_LRU,
    SESSIONS,
    a_config("prefix-cache-scorer", "weighted-random-picker"),
    a_config("lora-affinity-scorer", "load-aware-scorer", "random-picker"),
    a_config("utilization-detector", "token-load-scorer", "running-requests-size-scorer"),
    a_config("decode-filter", "prefix-cache-affinity-filter", "predicted-latency-cost-scorer"),
)


def serialized(pick: Pick) -> tuple[DecisionReceipt, CandidateSet]:
    """The receipt as a reader gets it."""
    dated = DatedDraft(draft_receipt(pick, 0.0), 1_700_000_000.0)
    message = ReceiptMessages(CandidateSets()).write([dated], envelope=an_envelope(), now=0.0)
    receipt = DecisionReceipt.FromString(message)
    return receipt, receipt.candidate_set


def again(pick: Pick, config: str = "") -> tuple[DecisionReceipt, Replayed]:
    receipt, candidates = serialized(pick)
    text = config or receipt.endpoint_picker_config
    return receipt, replay(receipt, candidates, compile_config(text, PLUGINS))


@st.composite
def pools(draw: st.DrawFn) -> list[Endpoint]:
    size = draw(st.one_of(st.integers(0, 6), st.sampled_from([12, 13, 70, 140])))
    whole = st.one_of(st.none(), st.integers(0, 70_000))
    return [
        an_endpoint(
            index,
            waiting=draw(whole),
            running=draw(whole),
            kv=draw(st.one_of(st.none(), st.floats(0, 1))),
            active_loras=draw(st.sampled_from([(), ("sql",)])),
            waiting_loras=draw(st.sampled_from([(), ("sql",)])),
            labels=draw(st.sampled_from([{}, {"llm-d.ai/role": "prefill"}])),
            read_at=draw(st.one_of(st.none(), st.floats(900, 1000))),
        )
        for index in range(1, size + 1)
    ]


requests = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["llama", "sql"]),
        "prompt_tokens": st.integers(0, 100_000),
        "block_hashes": st.lists(st.integers(0, 5), max_size=8),
        "subset": st.sampled_from([["10.0.0.1"], ["10.0.0.2:8000", "10.0.0.3"], []]),
        "headers": st.sampled_from([{}, {"x-session-id": "s1"}, {"x-session-id": "s2"}]),
        "cached_only": st.booleans(),
        "max_output_tokens": st.integers(0, 500),
    },
)


@settings(deadline=None, max_examples=60)
@given(pool=pools(), config=st.sampled_from(CONFIGS), asked=st.lists(requests, max_size=6))
def test_a_replayed_receipt_finds_what_the_pick_found(
    pool: list[Endpoint], config: str, asked: list[dict[str, Any]]
) -> None:
    desk = Desk(pool, config)
    for number, fields_ in enumerate(asked):
        lora = "sql" if fields_.get("model") == "sql" else ""
        pick = desk.pick(lease_id=f"l{number}", lora=lora, now=1_000.0 + number / 3, **fields_)
        before = desk.picking.pick(pick.descriptor, "", 1_000.1 + number / 3)
        receipt, replayed = again(before)
        assert differences(receipt, replayed) == []
        if isinstance(before.outcome, Decision):
            now = replayed.outcome
            assert isinstance(now, Decision)
            assert [one.uid for one in now.endpoints] == [
                one.uid for one in before.outcome.endpoints
            ]
            for profile, run in before.outcome.runs.items():
                assert now.runs[profile].totals.tobytes() == run.totals.tobytes()


def test_output_lengths_learnt_before_count_again() -> None:
    desk = Desk([an_endpoint(1), an_endpoint(2)], COST_CONFIG)
    desk.picking.output_lengths.note("llama", 731)
    receipt, replayed = again(desk.picking.pick(desk.pick().descriptor, "", 1_000.0))
    assert replayed.request.mean_output_tokens == 731.0
    assert differences(receipt, replayed) == []


def test_the_endpoint_that_computes_the_prompt_is_told_and_found_again() -> None:
    roles = [{"llm-d.ai/role": role} for role in ("decode", "prefill")]
    desk = Desk([an_endpoint(row, labels=one) for row, one in enumerate(roles, 1)], DISAGGREGATED)
    asked = a_descriptor(prompt_tokens=6400, block_hashes=range(100))
    receipt, replayed = again(desk.picking.pick(asked, "", 1_000.0))
    assert (receipt.profile, receipt.chosen[0].uid) == ("decode", "e1")
    assert receipt.prefill.uid == "e2"
    assert differences(receipt, replayed) == []
    receipt.prefill.address = "10.0.0.9:8000"
    assert [one.what for one in differences(receipt, replayed)] == ["prefill"]


def test_another_configuration_says_where_it_would_have_gone() -> None:
    desk = Desk([an_endpoint(1, waiting=4), an_endpoint(2, kv=0.9)], a_config("queue-scorer"))
    pick = desk.picking.pick(desk.pick().descriptor, "", 1_000.0)
    assert decided(pick).endpoints[0].uid == "e2"
    receipt, other = again(pick, a_config("kv-cache-utilization-scorer"))
    assert isinstance(other.outcome, Decision)
    assert other.outcome.endpoints[0].uid == "e1"
    assert "chosen" in [one.what for one in differences(receipt, other)]


@pytest.mark.parametrize("config", [NO_HIT_LRU, SESSIONS], ids=["no-hit-lru", "session"])
def test_what_plugins_remember_is_part_of_the_inputs(config: str) -> None:
    desk = Desk([an_endpoint(index) for index in range(1, 5)], config)
    for number in range(6):
        pick = desk.pick(request_id=f"r{number}", headers={"x-session-id": f"s{number % 2}"})
    assert pick.memories
    receipt, replayed = again(pick)
    assert differences(receipt, replayed) == []
    receipt.inputs.memories.clear()
    assert differences(receipt, replay(*_forgotten(receipt))) != []


def _forgotten(receipt: DecisionReceipt) -> tuple[DecisionReceipt, CandidateSet, Any]:
    return (
        receipt,
        receipt.candidate_set,
        compile_config(receipt.endpoint_picker_config, PLUGINS),
    )


def test_a_damaged_receipt_is_refused_and_never_replayed() -> None:
    desk = Desk([an_endpoint(1), an_endpoint(2)], COST_CONFIG)
    receipt, candidates = serialized(desk.pick())
    config = compile_config(COST_CONFIG, PLUGINS)
    for damage in (
        {"columns": receipt.inputs.columns[:-1]},
        {"columns": receipt.inputs.columns + b"\0"},
        {"encoding": "dd"},
        {"encoding": "x" * len(COLUMN_NAMES)},
        {"candidate_set": "another"},
        {"free_lora_slot": b"\0\0\0"},
    ):
        damaged = DecisionReceipt.FromString(receipt.SerializeToString())
        for name, value in damage.items():
            setattr(damaged.inputs, name, value)
        with pytest.raises(InputsError):
            replay(damaged, candidates, config)
    with pytest.raises(InputsError, match="no inputs"):
        replay(DecisionReceipt(), candidates, config)


def test_every_fact_that_plugins_see_is_in_the_receipt() -> None:
    """What is added to these classes must be packed by decision_inputs.py too."""
    assert [one.name for one in fields(Candidates)] == [
        *("endpoints", "labels", "columns", "loras", "cached_blocks"),
        *("now", "fresh_s", "half_life_s", "all_believed"),
    ]
    assert len(COLUMN_NAMES) == COLUMNS + 1
    assert not any(name.startswith("column-") for name in COLUMN_NAMES)
    from_descriptor = {
        *("request_id", "model", "lora", "priority", "fairness_id", "prompt_tokens"),
        *("block_tokens", "block_hashes", "max_output_tokens", "headers", "cached_only"),
        "ttft_slo_s",
    }
    told = {"mean_output_tokens", "seed"}
    assert {one.name for one in msgspec.structs.fields(SchedulingRequest)} == from_descriptor | told
