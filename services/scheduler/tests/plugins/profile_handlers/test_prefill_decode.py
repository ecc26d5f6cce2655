from typing import Any

import pytest
import yaml

from pointsman_common.contracts.scheduling_pb2 import PickResponse
from pointsman_common.endpoint import Endpoint
from pointsman_common.errors import SettingsError
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_scheduler.adapters.scheduling_rpc_server import answer
from pointsman_scheduler.core.config import compile_config
from pointsman_scheduler.core.scheduler import Refusal
from pointsman_scheduler.plugins.catalogue import PLUGINS
from pointsman_scheduler.testing import Desk, decided, refusal

ROLE = "llm-d.ai/role"
BLOCKS = [1, 2, 3, 4]
PROMPT: dict[str, Any] = {"prompt_tokens": 256, "block_hashes": BLOCKS}


def config(handler: dict[str, Any], *more: dict[str, Any], scorer: str = "queue-scorer") -> str:
    """Decode and prefill profiles under a profile handler."""
    plugins = [{"type": name} for name in ("decode-filter", "prefill-filter", scorer)]
    profiles = [
        {
            "name": name,
            "plugins": [{"pluginRef": f"{name}-filter"}, {"pluginRef": scorer}],
        }
        for name in ("decode", "prefill")
    ]
    document = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [*plugins, *more, handler],
        "schedulingProfiles": profiles,
    }
    return yaml.safe_dump(document)


def disaggregated(**parameters: Any) -> dict[str, Any]:
    return {"type": "disagg-profile-handler", "parameters": parameters}


ALWAYS = config(
    disaggregated(deciders={"prefill": "always-disagg-pd-decider"}),
    {"type": "always-disagg-pd-decider"},
)


def the_pool(*, prefill: int = 1) -> list[Endpoint]:
    decode = [an_endpoint(1, labels={ROLE: "decode"})]
    return decode + [an_endpoint(2 + n, labels={ROLE: "prefill"}) for n in range(prefill)]


def test_the_prompt_is_computed_apart_and_the_decode_endpoint_is_the_primary() -> None:
    desk = Desk(the_pool(), ALWAYS)
    pick = desk.pick(lease_id="l1", **PROMPT)
    decision = decided(pick)
    assert [one.uid for one in decision.endpoints] == ["e1"]
    assert decision.headers == {"x-prefiller-host-port": "10.0.0.2:8000"}
    picked = PickResponse.FromString(answer(pick, scores=False, receipt=False)).picked
    assert (picked.prefill.uid, picked.prefill.address) == ("e2", "10.0.0.2:8000")
    assert picked.profile == "decode"


def test_until_the_first_token_the_prefill_counts_where_it_is_made() -> None:
    desk = Desk(the_pool(), ALWAYS)
    desk.pick(lease_id="l1", **PROMPT)
    assert desk.leases.load("e1").requests == 1
    assert desk.leases.load("e1").prefill_tokens == 0
    assert desk.leases.load("e2").prefill_tokens == 256
    desk.leases.serve("l1")
    assert desk.leases.load("e2").requests == 0
    assert desk.leases.load("e1").context_tokens == 256
    desk.leases.finish("l1")
    assert desk.leases.load("e1").requests == 0


def test_both_endpoints_hold_the_prompt_afterwards() -> None:
    desk = Desk(the_pool(), ALWAYS)
    desk.pick(lease_id="l1", **PROMPT)
    candidates = desk.pick(lease_id="l2", **PROMPT).candidates
    assert candidates is not None
    assert candidates.cached_blocks.tolist() == [4, 4]


def test_a_client_cannot_name_a_prefill_endpoint_of_its_own() -> None:
    desk = Desk(the_pool(prefill=0), ALWAYS)
    pick = desk.pick(lease_id="l1", **PROMPT)
    assert decided(pick).headers == {}  # nobody prefills: decode does
    picked = PickResponse.FromString(answer(pick, scores=False, receipt=False)).picked
    assert "x-prefiller-host-port" in picked.headers.remove
    assert not picked.HasField("prefill")


def test_without_a_decode_endpoint_the_request_is_refused() -> None:
    desk = Desk([an_endpoint(1, labels={ROLE: "prefill"})], ALWAYS)
    assert refusal(desk.pick(**PROMPT)) is Refusal.NO_TARGET


@pytest.mark.parametrize(
    ("parameters", "apart"),
    [
        ({}, False),
        ({"nonCachedTokens": 256}, True),
        ({"nonCachedTokens": 257}, False),
        ({"nonCachedTokens": 1, "promptTokens": 257}, False),
    ],
)
def test_a_prompt_is_computed_apart_when_enough_of_it_is_not_cached(
    parameters: dict[str, int], apart: bool
) -> None:
    decider = {"type": "prefix-based-pd-decider", "parameters": parameters}
    text = config(disaggregated(deciders={"prefill": "prefix-based-pd-decider"}), decider)
    desk = Desk(the_pool(), text)
    assert (decided(desk.pick(**PROMPT)).prefill is not None) is apart


def test_what_the_decode_endpoint_holds_is_not_computed_apart() -> None:
    decider = {"type": "prefix-based-pd-decider", "parameters": {"nonCachedTokens": 64}}
    text = config(disaggregated(deciders={"prefill": "prefix-based-pd-decider"}), decider)
    desk = Desk(the_pool(), text)
    assert decided(desk.pick(**PROMPT)).prefill is not None
    assert decided(desk.pick(**PROMPT)).prefill is None


def test_prefill_first_always_computes_apart() -> None:
    desk = Desk(the_pool(), config(disaggregated(stageOrder="prefill-first")))
    assert decided(desk.pick(**PROMPT)).prefill is not None


def test_the_predicted_latency_decides_transfer_included() -> None:
    def text(transfer: float) -> str:
        decider = {
            "type": "predicted-latency-pd-decider",
            "parameters": {"transferSeconds": transfer},
        }
        handler = disaggregated(deciders={"prefill": "predicted-latency-pd-decider"})
        return config(handler, decider, scorer="predicted-latency-cost-scorer")

    prompt: dict[str, Any] = {"prompt_tokens": 20_000}
    for transfer, apart in ((0.005, True), (5.0, False)):
        desk = Desk(the_pool(), text(transfer))
        assert decided(desk.pick(lease_id="l1", **prompt)).prefill is None  # both are idle
        desk = Desk(the_pool(), text(transfer))
        desk.pick(lease_id="l1", prompt_tokens=30_000)  # now the decode endpoint is busy
        assert (decided(desk.pick(lease_id="l2", **prompt)).prefill is not None) is apart


@pytest.mark.parametrize(("threshold", "apart"), [(0, True), (100, True), (1000, False)])
def test_the_older_handler_is_read_too(threshold: int, apart: bool) -> None:
    handler = {
        "type": "pd-profile-handler",
        "parameters": {"threshold": threshold, "hashBlockSize": 5},
    }
    desk = Desk(the_pool(), config(handler, {"type": "prefill-header-handler"}))
    assert (decided(desk.pick(**PROMPT)).prefill is not None) is apart


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (disaggregated(deciders={"prefill": "nobody"}), "no plugin is called 'nobody'"),
        (disaggregated(deciders={"prefill": "queue-scorer"}), "'queue-scorer' is no decider"),
        (disaggregated(profiles={"decode": "x"}), "no profile 'x'"),
        (
            disaggregated(
                profiles={"decode": "decode", "prefill": "decode"}, stageOrder="prefill-first"
            ),
            "one profile for two stages",
        ),
        (disaggregated(stageOrder="sideways"), "stageOrder"),
    ],
)
def test_a_handler_that_cannot_work_is_refused(handler: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        compile_config(config(handler), PLUGINS)


def test_prefill_first_takes_no_decider() -> None:
    handler = disaggregated(
        stageOrder="prefill-first", deciders={"prefill": "always-disagg-pd-decider"}
    )
    with pytest.raises(SettingsError, match="takes no prefill decider"):
        compile_config(config(handler, {"type": "always-disagg-pd-decider"}), PLUGINS)


def one_profile(handler: dict[str, Any]) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "llm-d.ai/v1alpha1",
            "kind": "EndpointPickerConfig",
            "plugins": [{"type": "queue-scorer"}, handler],
            "schedulingProfiles": [{"name": "decode", "plugins": [{"pluginRef": "queue-scorer"}]}],
        }
    )


def test_a_data_parallel_rank_is_told_in_a_header_and_reached_at_the_primary_port() -> None:
    handler = {"type": "data-parallel-profile-handler", "parameters": {"primaryPort": 9000}}
    desk = Desk([an_endpoint(3)], one_profile(handler))
    decision = decided(desk.pick(lease_id="l1"))
    assert [(one.uid, one.address) for one in decision.endpoints] == [("e3", "10.0.0.3:9000")]
    assert decision.headers == {"x-data-parallel-host-port": "10.0.0.3:8000"}
    assert desk.leases.load("e3").requests == 1


def test_a_header_names_the_profile_and_an_unknown_one_is_refused() -> None:
    desk = Desk(the_pool(), config({"type": "header-profile-handler"}))
    assert desk.where() == "e1"
    assert desk.where(headers={"epp-profile": "prefill"}) == "e2"
    assert refusal(desk.pick(headers={"epp-profile": "x"})) is Refusal.NO_TARGET
    assert POOL in desk.picking.pools
