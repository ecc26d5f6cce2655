"""What any router must pass: `ROUTER_UNDER_TEST=host:port pytest <this file>`.

A router under test must know the pool of `POOL_UNDER_TEST` below, from the datalayer or otherwise.
The suite speaks only protobuf over gRPC: field meanings are those of routing.proto.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest
from support.fake_datalayer import FakeDatalayer, pool_state
from support.ports import free_port
from support.processes import Process

from pointsman_common.contracts.layer_pb2 import DescribeRequest, DescribeResponse, HeaderValue
from pointsman_common.contracts.routing_pb2 import (
    RequestDescriptor,
    Routed,
    RouteRequest,
    RouteResponse,
)
from pointsman_common.inference_pool import InferencePool, ModelRule, ModelTarget, RoutePolicy
from wire import Channel

ROUTE = "/pointsman.routing.v1.Router/Route"
POOL = "contract/router"
RULES: list[dict[str, Any]] = [
    {
        "name": "greeting",
        "type": "system-prompt",
        "match": {"header": {"x-rule": "prompt"}},
        "parameters": {"text": "Hello {{ tenant }}."},
    },
    {
        "name": "short",
        "type": "validate",
        "match": {"header": {"x-rule": "validate"}},
        "parameters": {"maxOutputTokens": 10},
    },
    {
        "name": "tenant",
        "type": "rate-limit-key",
        "match": {"header": {"x-rule": "key"}},
        "parameters": {"sources": [{"type": "header", "name": "x-team"}]},
    },
    {
        "name": "down",
        "type": "external",
        "match": {"header": {"x-rule": "down*"}, "model": "llama"},
        "parameters": {"url": "http://127.0.0.1:1/"},
    },
]
POOL_UNDER_TEST = InferencePool(
    name=POOL,
    hash="h1",
    objectives={"obj-hi": 10, "obj-shed": -1},
    model_rules=(
        ModelRule("InferenceModelRewrite/one", frozenset({"m"}), (ModelTarget("t"),)),
        ModelRule("InferenceModelRewrite/later", frozenset({"m"}), (ModelTarget("late"),)),
        ModelRule(
            "InferenceModelRewrite/canary",
            frozenset({"split"}),
            (ModelTarget("stable", 90), ModelTarget("canary", 10)),
        ),
        ModelRule(
            "InferenceModelRewrite/even", frozenset({"even"}), (ModelTarget("a"), ModelTarget("b"))
        ),
        ModelRule("InferenceModel/crit", frozenset({"crit"}), (), priority=5),
    ),
    served_models=frozenset(
        {"llama", "llama-sql", "crit", "t", "late", "stable", "canary", "a", "b"}
    ),
    lora_adapters=frozenset({"llama-sql"}),
    prefix_block_tokens=64,
    route_policies=(
        RoutePolicy("bad", '{"rules":[{"name":"x","type":"no-such-type"}]}'),
        RoutePolicy("good", json.dumps({"rules": RULES})),
    ),
)


@pytest.fixture(scope="module")
def address(
    under_test: Callable[[str], str | None],
    start_service: Callable[[str, Mapping[str, str]], Process],
    fake_datalayer: Callable[..., FakeDatalayer],
    wait_ready: Callable[[Process, str], None],
    no_bus_url: str,
) -> str:
    given = under_test("router")
    if given:
        return given
    listen, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    service = start_service(
        "pointsman_router",
        {
            "ROUTER_LISTEN_ADDRESS": listen,
            "ROUTER_ADMIN_ADDRESS": admin,
            "ROUTER_BUS_URL": no_bus_url,
            "ROUTER_DATALAYER_URL": fake_datalayer(pool_state(POOL_UNDER_TEST)).url,
        },
    )
    wait_ready(service, f"http://{admin}")
    return listen


class Router:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def answer(
        self,
        body: bytes | Mapping[str, Any],
        *,
        path: str = "/v1/completions",
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        pool: str = POOL,
        bodiless: bool = False,
        **more: Any,
    ) -> RouteResponse:
        items = {":method": method, ":path": path, "x-request-id": "r1", **(headers or {})}
        request = RouteRequest(
            request_id="r1",
            pool=pool,
            headers=[HeaderValue(key=k, value=v.encode()) for k, v in items.items()],
            body=body if isinstance(body, bytes) else json.dumps(body).encode(),
            bodiless=bodiless,
            arrived_at=1_700_000_000.25,
            **more,
        )
        reply = await self._channel.unary(ROUTE, request.SerializeToString(), timeout_s=10)
        return RouteResponse.FromString(reply)

    async def routed(self, body: bytes | Mapping[str, Any], **more: Any) -> Routed:
        answer = await self.answer(body, **more)
        assert answer.WhichOneof("outcome") == "routed", answer
        return answer.routed

    async def told(self, body: bytes | Mapping[str, Any], **more: Any) -> RequestDescriptor:
        return (await self.routed(body, **more)).descriptor

    async def refused(self, body: bytes | Mapping[str, Any], **more: Any) -> tuple[int, str, str]:
        """HTTP status, message and field of a refusal, whose form is checked."""
        answer = await self.answer(body, **more)
        assert answer.WhichOneof("outcome") == "rejection", answer
        refusal = answer.rejection
        assert refusal.message and refusal.message.isprintable(), "one line"
        codes = {400: "BadRequest", 404: "NotFound", 503: "ServiceUnavailable"}
        assert refusal.code == codes[refusal.http_status]
        return refusal.http_status, refusal.message, refusal.param


@pytest.fixture
async def router(address: str) -> AsyncIterator[Router]:
    async with Channel(address, max_message_bytes=80 << 20) as channel:
        yield Router(channel)


def patched(body: bytes, routed: Routed) -> bytes:
    """The body that the edge would send."""
    kind = routed.body_patch.WhichOneof("patch") if routed.HasField("body_patch") else None
    if kind is None:
        return body
    if kind == "replacement":
        return routed.body_patch.replacement
    out, at = b"", 0
    for splice in routed.body_patch.splices.splices:
        assert splice.offset >= at, "ascending and not overlapping"
        out += body[at : splice.offset] + splice.inserted
        at = splice.offset + splice.removed
    return out + body[at:]


def blocks(told: RequestDescriptor) -> list[bytes]:
    packed = told.prompt_block_hashes
    assert len(packed) % 8 == 0
    return [packed[at : at + 8] for at in range(0, len(packed), 8)]


async def test_it_says_which_layer_it_is(address: str) -> None:
    async with Channel(address) as channel:
        asked = DescribeRequest().SerializeToString()
        reply = await channel.unary("/pointsman.layer.v1.Layer/Describe", asked, timeout_s=5)
    described = DescribeResponse.FromString(reply)
    assert (described.layer, described.contract_version) == ("router", "v1")
    assert described.name and described.replica


async def test_a_descriptor_repeats_what_the_edge_said(router: Router) -> None:
    body = b'{"model":"llama","prompt":"hi","max_tokens":10,"stream":true}'
    told = await router.told(body, subset={"endpoints": ["10.0.0.1:8000"]})
    assert (told.request_id, told.pool, told.arrived_at) == ("r1", POOL, 1_700_000_000.25)
    assert (told.model, told.target_model, told.lora) == ("llama", "llama", "")
    assert (told.api, told.stream, told.max_output_tokens) == ("openai-completions", True, 10)
    assert (told.priority, told.fairness_id, told.objective) == (0, "default-flow", "")
    assert told.prompt_tokens >= 1 and told.body_bytes == len(body) and not told.bodiless
    assert list(told.subset.endpoints) == ["10.0.0.1:8000"]


async def test_no_subset_and_an_empty_one_are_told_apart(router: Router) -> None:
    body = {"model": "llama", "prompt": "hi"}
    assert not (await router.told(body)).HasField("subset")
    told = await router.told(body, subset={})
    assert told.HasField("subset") and not told.subset.endpoints


async def test_a_body_without_a_rewrite_goes_on_byte_for_byte(router: Router) -> None:
    body = b'{ "prompt":"\\u00e9\\n", "b":1.0,"a" :1e3,"a":[ ],"model"\t: "llama"}\n'
    routed = await router.routed(body)
    assert patched(body, routed) == body and routed.model_in_answer == ""


async def test_a_rewrite_changes_the_model_and_nothing_else(router: Router) -> None:
    body = b'{ "x":{"model":"m"},"z":1.0, "model" : "m","prompt":"\\"model\\":\\"m\\"", "a":[1e3]}'
    routed = await router.routed(body)
    expected = body.replace(b'"model" : "m"', b'"model" : "t"')
    assert patched(body, routed) == expected
    told = routed.descriptor
    assert (told.model, told.target_model, told.body_bytes) == ("m", "t", len(expected))
    assert routed.model_in_answer == "m"


async def test_every_of_two_equal_keys_is_rewritten(router: Router) -> None:
    body = b'{"model":"other","prompt":"p","model":"m"}'
    assert json.loads(patched(body, await router.routed(body)))["model"] == "t"
    assert b"other" not in patched(body, await router.routed(body))


async def test_ninety_to_ten_is_exact_over_a_hundred_requests(router: Router) -> None:
    body = {"model": "split", "prompt": "hi"}
    names = [(await router.told(body)).target_model for _ in range(150)]
    for start in (0, 17, 50):
        assert Counter(names[start : start + 100]) == {"stable": 90, "canary": 10}


async def test_targets_without_weights_are_equal(router: Router) -> None:
    body = {"model": "even", "prompt": "hi"}
    names = Counter([(await router.told(body)).target_model for _ in range(40)])
    assert names == {"a": 20, "b": 20}


@pytest.mark.parametrize("name", ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"])
async def test_the_rewrite_header_gives_way_to_a_matching_rule(router: Router, name: str) -> None:
    headers = {name: "llama-sql"}
    told = await router.told({"model": "llama", "prompt": "hi"}, headers=headers)
    assert (told.target_model, told.lora) == ("llama-sql", "llama-sql")
    told = await router.told({"model": "m", "prompt": "hi"}, headers=headers)
    assert told.target_model == "t"


NEW, OLD = "x-llm-d-inference-objective", "x-gateway-inference-objective"


@pytest.mark.parametrize(
    ("headers", "priority"),
    [
        ({}, 0),
        ({NEW: "obj-hi"}, 10),
        ({OLD: "obj-hi"}, 10),
        ({OLD: "obj-shed", NEW: "obj-hi"}, 10),
        ({NEW: "obj-shed"}, -1),
        ({NEW: "nobody"}, 0),
        ({NEW: "", OLD: "obj-hi"}, 0),
    ],
)
async def test_the_objective_gives_the_priority(
    router: Router, headers: dict[str, str], priority: int
) -> None:
    told = await router.told({"model": "llama", "prompt": "hi"}, headers=headers)
    assert told.priority == priority


async def test_an_inference_model_gives_the_priority_where_no_objective_is_named(
    router: Router,
) -> None:
    body = {"model": "crit", "prompt": "hi"}
    assert (await router.told(body)).priority == 5
    assert (await router.told(body, headers={NEW: "obj-shed"})).priority == -1


async def test_the_fairness_id_names_the_flow(router: Router) -> None:
    body = {"model": "llama", "prompt": "hi"}
    new, old = "x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"
    assert (await router.told(body, headers={old: "a"})).fairness_id == "a"
    assert (await router.told(body, headers={old: "a", new: "b"})).fairness_id == "b"
    assert (await router.told(body, headers={new: ""})).fairness_id == "default-flow"
    long = await router.told(body, headers={new: "t" * 10_000})
    assert 0 < len(long.fairness_id) <= 256


async def test_latency_objectives_and_conditions_are_told(router: Router) -> None:
    body = {"model": "llama", "prompt": "hi"}
    headers = {
        "x-slo-ttft-ms": "250",
        "x-llm-d-slo-tpot-ms": "30",
        "prefer": "respond-async, If-Available",
    }
    told = await router.told(body, headers=headers)
    assert (told.ttft_slo_ms, told.tpot_slo_ms, told.cached_only) == (250, 30, True)
    told = await router.told(body, headers={"x-slo-ttft-ms": "soon"})
    assert not told.HasField("ttft_slo_ms") and not told.cached_only


async def test_equal_prompts_have_equal_chains_under_one_model_and_salt(router: Router) -> None:
    prompt = "All happy families are alike. " * 100
    first = await router.told({"model": "llama", "prompt": prompt})
    again = await router.told({"prompt": prompt, "max_tokens": 3, "model": "llama"})
    assert first.block_tokens > 0
    assert blocks(first) == blocks(again) and len(blocks(first)) > 1
    for other in ({"model": "llama-sql"}, {"model": "llama", "cache_salt": "s"}):
        assert not set(blocks(first)) & set(blocks(await router.told({"prompt": prompt, **other})))


async def test_the_chain_of_a_turn_goes_on_from_the_one_before(router: Router) -> None:
    turns = [{"role": "system", "content": "You are a railway expert. " * 60}]
    chains: list[list[bytes]] = []
    for number in range(4):
        turns.append({"role": "user", "content": f"Question {number}? " * 40})
        body = {"model": "llama", "messages": turns}
        chains.append(blocks(await router.told(body, path="/v1/chat/completions")))
        turns.append({"role": "assistant", "content": f"Answer {number}. " * 40})
    for before, after in pairwise(chains):
        assert len(after) > len(before) > 1
        assert after[: len(before) - 1] == before[:-1]  # the last block may have been a part


@pytest.mark.parametrize(
    ("path", "body", "api"),
    [
        (
            "/v1/chat/completions?x=1",
            {"messages": [{"role": "user", "content": "hi"}]},
            "openai-chat",
        ),
        ("/v1/completions", {"prompt": ["a", "b"]}, "openai-completions"),
        ("/v1/completions", {"prompt": [1, 2, 3]}, "openai-completions"),
        ("/v1/completions", {"prompt": [[1], [2, 3]]}, "openai-completions"),
    ],
)
async def test_the_apis_are_told_by_their_paths(
    router: Router, path: str, body: dict[str, Any], api: str
) -> None:
    told = await router.told({"model": "llama", **body}, path=path)
    assert (told.api, told.target_model) == (api, "llama")
    assert told.prompt_tokens > 0


async def test_a_picture_is_not_counted_as_text(router: Router) -> None:
    url = {"url": "data:image/png;base64," + "A" * 800_000}
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": url}]
    body = {"model": "llama", "messages": [{"role": "user", "content": content}]}
    assert (await router.told(body, path="/v1/chat/completions")).prompt_tokens < 20_000


async def test_an_unknown_path_passes_untouched(router: Router) -> None:
    routed = await router.routed(b"abc", path="/foo", headers={NEW: "obj-hi"})
    assert patched(b"abc", routed) == b"abc"
    told = routed.descriptor
    assert (told.api, told.target_model, told.body_bytes) == ("passthrough", "", 3)
    assert told.priority == 10


async def test_a_bodiless_request_passes(router: Router) -> None:
    told = await router.told(b"", path="/v1/models", method="GET", bodiless=True)
    assert (told.bodiless, told.prompt_tokens, told.body_bytes) == (True, 0, 0)


CHAT = "/v1/chat/completions"
UNREADABLE = "error unmarshaling request bodyMap"


@pytest.mark.parametrize(
    ("path", "body", "message", "param"),
    [
        ("/v1/completions", b"no healthy upstream", UNREADABLE, ""),
        ("/v1/completions", b"", UNREADABLE, ""),
        ("/v1/completions", b"[]", UNREADABLE, ""),
        ("/v1/completions", b'{"model":"llama","prompt":"\xff"}', UNREADABLE, ""),
        ("/v1/completions", b'{"model":"llama","prompt":' + b"[" * 100_000, UNREADABLE, ""),
        ("/v1/completions", b'{"prompt":"x"}', "model not found in request body", "model"),
        (
            "/v1/completions",
            b'{"model":"llama"}',
            "invalid completions request: must have prompt field",
            "prompt",
        ),
        (
            CHAT,
            b'{"model":"llama"}',
            "invalid chat completions request: must have valid messages field",
            "messages",
        ),
        (CHAT, b'{"model":"llama","messages":"hi"}', "", "messages"),
        (CHAT, b'{"model":["llama"],"messages":[{"role":"user","content":"x"}]}', "", "model"),
        ("/v1/completions", b'{"model":"llama","prompt":5}', "", "prompt"),
        ("/v1/completions", b'{"model":"llama","prompt":"x","stream":"yes"}', "", "stream"),
    ],
)
async def test_a_bad_body_is_a_refusal_with_its_reason(
    router: Router, path: str, body: bytes, message: str, param: str
) -> None:
    status, said, field = await router.refused(body, path=path)
    assert (status, field) == (400, param)
    assert said.startswith(message)


async def test_a_model_that_is_not_served_is_not_found(router: Router) -> None:
    status, said, field = await router.refused({"model": "gpt-9", "prompt": "hi"})
    assert (status, field) == (404, "model")
    assert "`gpt-9` does not exist" in said


async def test_a_pool_that_is_not_known_is_unavailable(router: Router) -> None:
    status, said, _ = await router.refused({"model": "llama", "prompt": "x"}, pool="no/such")
    assert status == 503 and "no/such" in said


@pytest.fixture
async def ruling(address: str, router: Router) -> Router:
    """A router that says it has rules; those of another implementation are not asked of it."""
    async with Channel(address) as channel:
        asked = DescribeRequest().SerializeToString()
        reply = await channel.unary("/pointsman.layer.v1.Layer/Describe", asked, timeout_s=5)
    if "rules" not in DescribeResponse.FromString(reply).capabilities:
        pytest.skip("the router under test does not name the capability `rules`")
    return router


HI = b'{ "model":"llama", "messages":[ {"role":"user","content":"hi"}], "max_tokens":11 }'


async def test_a_rule_writes_into_the_prompt_and_leaves_every_other_byte(ruling: Router) -> None:
    routed = await ruling.routed(HI, path=CHAT, headers={"x-rule": "prompt"})
    said = b'[{"role":"system","content":"Hello default-flow."}, {'
    assert patched(HI, routed) == HI.replace(b"[ {", said)
    assert routed.descriptor.body_bytes == len(patched(HI, routed))
    again = await ruling.told(patched(HI, routed), path=CHAT)
    assert again.prompt_block_hashes == routed.descriptor.prompt_block_hashes
    plain = await ruling.routed(HI, path=CHAT)
    assert patched(HI, plain) == HI


async def test_a_rule_refuses_in_one_line_with_a_reason(ruling: Router) -> None:
    answer = await ruling.answer(HI, path=CHAT, headers={"x-rule": "validate"})
    refusal = answer.rejection
    assert (refusal.http_status, refusal.code) == (400, "BadRequest")
    assert (refusal.reason, refusal.param) == ("rejected-by-rule", "max_tokens")
    assert refusal.message.isprintable() and "11 output tokens" in refusal.message


async def test_a_rule_says_whose_a_request_is(ruling: Router) -> None:
    headers = {"x-rule": "key", "x-llm-d-inference-fairness-id": "liar"}
    assert (await ruling.told(HI, path=CHAT, headers=headers)).fairness_id == "default-flow"
    headers["x-team"] = "team-a"
    assert (await ruling.told(HI, path=CHAT, headers=headers)).fairness_id == "team-a"


async def test_a_rule_that_cannot_ask_refuses_the_requests_it_is_for(ruling: Router) -> None:
    answer = await ruling.answer(HI, path=CHAT, headers={"x-rule": "down"})
    assert (answer.rejection.http_status, answer.rejection.reason) == (503, "rule-failed")
    other = HI.replace(b'"llama"', b'"crit"')
    assert (await ruling.told(other, path=CHAT, headers={"x-rule": "down"})).model == "crit"
