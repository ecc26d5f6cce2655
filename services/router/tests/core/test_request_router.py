from collections import Counter

import pytest

from pointsman_common.errors import BadRequestError, NotFoundError
from pointsman_common.inference_pool import InferencePool, ModelRule, ModelTarget
from pointsman_router.core.request_headers import RequestHeaders
from pointsman_router.core.request_parsers.registry import ParserRegistry
from pointsman_router.core.request_router import RequestRouter, RoutingDecision

BODY = b'{"model":"m","prompt":"hi","max_tokens":10}'
TO_T = ModelRule("InferenceModelRewrite/t", frozenset({"m"}), (ModelTarget("t"),), priority=3)


def a_router(pool: InferencePool | None = None, **fields: object) -> RequestRouter:
    return RequestRouter(
        pool or InferencePool(name="default/llama", **fields),  # type: ignore[arg-type]  # a test's
        ParserRegistry.from_config(None),
        max_prefix_blocks=2048,
        forwarded_headers=["x-session-id"],
    )


def routed(
    router: RequestRouter,
    body: bytes = BODY,
    *,
    path: str = "/v1/completions",
    method: str = "POST",
    bodiless: bool = False,
    **headers: str,
) -> RoutingDecision:
    items = [(":method", method), (":path", path)]
    items += [(name.replace("_", "-"), value) for name, value in headers.items()]
    given = RequestHeaders((name, value.encode()) for name, value in items)
    return router.route(given, body, bodiless=bodiless)


def test_a_request_without_rules_keeps_its_model_and_its_bytes() -> None:
    decision = routed(a_router())
    assert (decision.parsed.model, decision.target_model) == ("m", "m")
    assert (decision.splices, decision.body_bytes) == ((), len(BODY))
    assert (decision.priority, decision.fairness_id, decision.objective) == (0, "default-flow", "")
    assert (len(decision.block_hashes), decision.block_tokens) == (1, 64)
    assert decision.rule is None


def test_a_rule_changes_the_model_in_place() -> None:
    decision = routed(a_router(model_rules=(TO_T,)), x_llm_d_model_name_rewrite="h")
    [splice] = decision.splices
    assert (decision.target_model, decision.rule, decision.priority) == ("t", TO_T, 3)
    assert (splice.offset, splice.removed, splice.inserted) == (9, 3, b'"t"')
    assert decision.body_bytes == len(BODY)


def test_the_rewrite_header_changes_the_model_where_no_rule_matches() -> None:
    decision = routed(a_router(), x_gateway_model_name_rewrite="long-name")
    assert (decision.target_model, decision.rule) == ("long-name", None)
    assert decision.body_bytes == len(BODY) + len("long-name") - 1


def test_a_target_that_is_the_model_itself_leaves_the_body() -> None:
    same = ModelRule("r", frozenset(), (ModelTarget("m"),))
    decision = routed(a_router(model_rules=(same,)))
    assert (decision.splices, decision.rule) == ((), same)


def test_the_fingerprint_belongs_to_the_target_model() -> None:
    plain, rewritten = routed(a_router()), routed(a_router(model_rules=(TO_T,)))
    direct = routed(a_router(), BODY.replace(b'"m"', b'"t"'))
    assert plain.block_hashes != rewritten.block_hashes == direct.block_hashes


def test_a_target_that_is_an_adapter_is_named_as_such() -> None:
    router = a_router(model_rules=(TO_T,), lora_adapters=frozenset({"t"}))
    assert routed(router).lora == "t"
    assert routed(a_router(lora_adapters=frozenset({"t"}))).lora == ""


def test_a_model_that_the_pool_does_not_serve_is_not_found() -> None:
    router = a_router(served_models=frozenset({"llama", "t"}))
    with pytest.raises(NotFoundError) as refused:
        routed(router)
    assert refused.value.message == "The model `m` does not exist."
    assert (refused.value.code, refused.value.param) == ("NotFound", "model")
    assert routed(router, BODY.replace(b'"m"', b'"llama"')).target_model == "llama"


def test_a_rule_that_leads_to_a_served_model_makes_the_name_known() -> None:
    router = a_router(served_models=frozenset({"t"}), model_rules=(TO_T,))
    assert routed(router).target_model == "t"


def test_a_long_or_odd_model_name_stays_within_its_line() -> None:
    router = a_router(served_models=frozenset({"llama"}))
    with pytest.raises(NotFoundError) as refused:
        routed(router, b'{"model":"a\\n' + b"x" * 1000 + b'","prompt":"p"}')
    assert len(refused.value.message) < 200 and refused.value.message.isprintable()


def test_the_objective_and_the_flow_are_read_from_headers() -> None:
    router = a_router(objectives={"high": 10})
    decision = routed(
        router,
        x_llm_d_inference_objective="high",
        x_llm_d_inference_fairness_id="tenant",
    )
    assert (decision.priority, decision.objective) == (10, "high")
    assert decision.fairness_id == "tenant"


def test_hints_are_read_and_control_headers_taken_off() -> None:
    decision = routed(
        a_router(),
        x_slo_ttft_ms="250",
        x_llm_d_slo_tpot_ms="30.5",
        x_pointsman_queue_ttl_ms="99999999",
        prefer="if-available",
        x_session_id="s1",
        x_other="o",
    )
    assert (decision.ttft_slo_ms, decision.tpot_slo_ms) == (250, 30)
    assert (decision.queue_ttl_ms, decision.cached_only) == (3_600_000, True)
    assert decision.remove_headers == [
        "x-llm-d-slo-tpot-ms",
        "x-pointsman-queue-ttl-ms",
        "x-slo-ttft-ms",
    ]
    assert decision.forwarded_headers == {"x-session-id": "s1"}


def test_an_unknown_path_passes_whatever_its_body() -> None:
    router = a_router(model_rules=(TO_T,), served_models=frozenset({"t"}), objectives={"o": 2})
    decision = routed(router, b"abc", path="/foo", x_llm_d_inference_objective="o")
    assert (decision.parsed.api, decision.target_model) == ("passthrough", "")
    assert (decision.splices, decision.block_hashes, decision.priority) == ((), [], 2)


def test_a_bodiless_get_passes_on_any_path() -> None:
    decision = routed(a_router(), b"", path="/v1/completions", method="GET", bodiless=True)
    assert (decision.parsed.api, decision.parsed.prompt_tokens) == ("passthrough", 0)


def test_a_post_without_a_body_is_an_empty_body() -> None:
    with pytest.raises(BadRequestError, match="unexpected end of JSON input"):
        routed(a_router(), b"", bodiless=True)
    assert routed(a_router(), b"", path="/foo", bodiless=True).parsed.api == "passthrough"


def test_a_new_configuration_applies_to_the_next_request() -> None:
    canary = ModelRule("c", frozenset(), (ModelTarget("a", 3), ModelTarget("b", 1)))
    router = a_router(model_rules=(canary,))
    first = [routed(router).target_model for _ in range(2)]
    config = InferencePool(name="default/llama", model_rules=(canary,), objectives={"o": 1})
    router.use(config, ParserRegistry.from_config(None))
    second = [routed(router).target_model for _ in range(2)]
    assert Counter(first + second) == {"a": 3, "b": 1}
    assert routed(router, x_llm_d_inference_objective="o").priority == 1
