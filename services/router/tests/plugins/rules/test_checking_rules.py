"""The rules that decide by themselves: validate, headers, keys and models."""

import base64
import json
from typing import Any

import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.inference_pool import InferencePool, ModelRule, ModelTarget
from pointsman_router.rules_testing import RulesUnderTest, Tried, try_rules

BODY = b'{"model":"m","messages":[{"role":"user","content":"my card 4111 1111"}],"max_tokens":50}'
KEY = {"authorization": "Bearer sk-1"}


def policy(type_name: str, **parameters: Any) -> str:
    return f"rules: [{{name: r, type: {type_name}, parameters: {json.dumps(parameters)}}}]"


def tried(
    type_name: str, headers: dict[str, str] | None = None, *, body: bytes = BODY, **parameters: Any
) -> Tried:
    return try_rules(policy(type_name, **parameters), body, headers=headers)


@pytest.mark.parametrize(
    ("parameters", "status", "message"),
    [
        ({"maxBodyBytes": 20}, 413, "the body has 88 bytes; allowed are 20"),
        ({"maxOutputTokens": 49}, 400, "50 output tokens are asked for; allowed are 49"),
        ({"maxPromptTokens": 3}, 400, "6 prompt tokens, estimated are asked for; allowed are 3"),
        ({"allowedModels": ["llama-*"]}, 403, "this model is not allowed here"),
        ({"requiredHeaders": ["X-Plan"]}, 400, "the header X-Plan is missing"),
        (
            {"refusePatterns": [{"pattern": "\\b(\\d{4} ?){2}", "message": "no card numbers"}]},
            400,
            "no card numbers",
        ),
        (
            {"schema": {"properties": {"max_tokens": {"maximum": 10}}}},
            400,
            "max_tokens does not satisfy maximum: 10",
        ),
        ({"schema": {"required": ["user"]}}, 400, "the body does not satisfy required: ['user']"),
        (
            {"schema": {"properties": {"model": {"pattern": "^x"}}}},
            400,
            "model does not satisfy pattern: ^x",
        ),
    ],
)
def test_what_is_not_wanted_is_refused_with_the_reason(
    parameters: dict[str, Any], status: int, message: str
) -> None:
    refusal = tried("validate", **parameters).refusal
    assert refusal is not None
    assert (refusal.http_status, refusal.message) == (status, message)
    assert "4111" not in refusal.message


def test_what_is_wanted_passes_byte_for_byte() -> None:
    result = tried(
        "validate",
        {"x-plan": "free"},
        maxBodyBytes=88,
        maxOutputTokens=50,
        maxPromptTokens=100,
        maxChoices=1,
        allowedModels=["*"],
        requiredHeaders=["x-plan"],
        refusePatterns=[{"pattern": "password"}],
        schema={"type": "object", "properties": {"model": {"pattern": "^m$"}}},
    )
    assert result.refusal is None and result.body == BODY


def test_a_pattern_that_would_take_for_ever_elsewhere_is_quick() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a" * 200_000}]})
    result = tried("validate", body=body.encode(), refusePatterns=[{"pattern": "^(a+)+b$"}])
    assert result.refusal is None


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"$ref": "http://127.0.0.1:1/x"}, "'http://127.0.0.1:1/x'"),
        ({"properties": {"a": {"items": {"$ref": "#/$defs/b"}}}}, "'#/$defs/b'"),
        ({"$ref": "#/title", "title": "t"}, "'#/title'"),
        ({"anyOf": [{"$dynamicRef": "#nowhere"}]}, "'#nowhere'"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_with_the_policy(
    schema: dict[str, Any], shown: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        tried("validate", schema=schema)
    assert refused.value.key == "rules[0].parameters.schema" and shown in refused.value.why


def test_references_within_a_schema_are_followed() -> None:
    schema = {
        "$id": "http://team/a",
        "$defs": {"few": {"$id": "few", "maximum": 10}, "named": {"$anchor": "n", "maxLength": 9}},
        "properties": {
            "max_tokens": {"$ref": "few"},
            "model": {"$ref": "#n"},
            # A member of this name is no reference.
            "meta": {"properties": {"$ref": {"type": "string"}}},
        },
    }
    refusal = tried("validate", schema=schema).refusal
    assert refusal is not None and refusal.message == "max_tokens does not satisfy maximum: 10"


def test_a_schema_does_not_look_into_endless_depth() -> None:
    depth = {"items": {"$ref": "#/$defs/d"}}
    schema = {"$defs": {"d": depth}, "properties": {"x": depth}}
    deep = b'{"model":"m","prompt":"p","x":' + b"[" * 900 + b"]" * 900 + b"}"
    given = policy("validate", schema=schema)
    refusal = try_rules(given, deep, path="/v1/completions").refusal
    assert refusal is not None and refusal.message == "the body is nested too deeply"


def test_headers_are_set_from_templates_and_removed() -> None:
    result = tried(
        "header-edit",
        {"x-old": "1"},
        set={"X-Team": "{{ tenant }}/{{ model }}", "x-llm-d-inference-fairness-id": "z"},
        remove=["x-old"],
    )
    decision = result.decision
    assert decision is not None
    assert decision.set_headers["x-team"] == "default-flow/m"
    assert "x-old" in decision.remove_headers and decision.fairness_id == "z"


@pytest.mark.parametrize(
    "name", ["Content-Length", ":path", "x-gateway-destination-endpoint", "a b"]
)
def test_some_headers_are_nobodys_to_edit(name: str) -> None:
    for parameters in ({"set": {name: "x"}}, {"remove": [name]}):
        with pytest.raises(SettingsError, match="not a rule's to change"):
            tried("header-edit", **parameters)


def a_token(**claims: Any) -> dict[str, str]:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return {"authorization": f"Bearer e30.{payload}.c2ln"}


CLIENT = {"x-llm-d-inference-fairness-id": "mine", "x-llm-d-inference-objective": "high"}


@pytest.mark.parametrize(
    ("headers", "parameters", "fairness_id"),
    [
        ({"x-tenant": "a"}, {"sources": [{"type": "header", "name": "X-Tenant"}]}, "a"),
        (KEY, {"sources": [{"type": "api-key-hash"}]}, "key-0f2c10bf3d128c71"),
        ({"x-api-key": "sk-1"}, {"sources": [{"type": "api-key-hash"}]}, "key-0f2c10bf3d128c71"),
        (a_token(org="o1"), {"sources": [{"type": "jwt-claim", "name": "org"}]}, "o1"),
        (
            {"authorization": "Bearer a.!.c"},
            {"sources": [{"type": "jwt-claim", "name": "org"}]},
            "default-flow",
        ),
        (a_token(org=["x"]), {"sources": [{"type": "jwt-claim", "name": "org"}]}, "default-flow"),
        ({}, {"sources": [{"type": "api-key-hash"}]}, "default-flow"),
        ({}, {"sources": [{"type": "api-key-hash"}], "otherwise": "client"}, "mine"),
        (
            {"x-tenant": "a"},
            {
                "sources": [{"type": "header", "name": "x-tenant"}],
                "tenants": {"a": {"fairnessId": "acme"}},
            },
            "acme",
        ),
        (
            {"x-tenant": "b"},
            {
                "sources": [{"type": "header", "name": "x-tenant"}],
                "tenants": {"a": {"fairnessId": "acme"}},
            },
            "default-flow",
        ),
    ],
)
def test_whose_a_request_is_need_not_be_what_the_client_says(
    headers: dict[str, str], parameters: dict[str, Any], fairness_id: str
) -> None:
    decision = tried("rate-limit-key", {**CLIENT, **headers}, **parameters).decision
    assert decision is not None
    assert decision.fairness_id == fairness_id and decision.objective == "high"


def test_an_objective_is_the_tenants_where_clients_are_not_trusted() -> None:
    given: dict[str, Any] = {
        "sources": [{"type": "header", "name": "x-tenant"}],
        "tenants": {"a": {"fairnessId": "acme", "objective": "gold"}},
        "trustObjective": False,
    }
    decision = tried("rate-limit-key", {**CLIENT, "x-tenant": "a"}, **given).decision
    assert decision is not None and decision.objective == "gold"
    decision = tried("rate-limit-key", CLIENT, **given).decision
    assert decision is not None and decision.objective == ""


def test_a_request_of_nobody_may_be_refused() -> None:
    given: dict[str, Any] = {"sources": [{"type": "api-key-hash"}], "otherwise": "refuse"}
    refusal = tried("rate-limit-key", CLIENT, **given).refusal
    assert refusal is not None and refusal.http_status == 401
    assert tried("rate-limit-key", KEY, **given).refusal is None


POOL = InferencePool(
    name="default/llama",
    served_models=frozenset({"llama", "canary"}),
    model_rules=(
        ModelRule("r", frozenset({"llama"}), (ModelTarget("llama", 50), ModelTarget("canary", 50))),
    ),
)


def test_an_alias_goes_before_rewrites_and_the_client_gets_its_name_back() -> None:
    rules = RulesUnderTest(policy("model-alias", aliases={"m": "llama"}), pool=POOL)
    targets = {rules.send(BODY).decision.target_model for _ in range(2)}  # type: ignore[union-attr]  # fails if refused
    assert targets == {"llama", "canary"}
    result = rules.send(BODY)
    assert result.decision is not None and result.decision.model == "m"
    assert result.body == BODY.replace(b'"m"', f'"{result.decision.target_model}"'.encode())


@pytest.mark.parametrize(
    ("parameters", "sticky"),
    [
        ({}, True),
        ({"by": "header", "header": "X-Session-Id"}, True),
        ({"by": "header", "header": "x-none"}, False),
    ],
)
def test_a_user_keeps_the_target(parameters: dict[str, str], sticky: bool) -> None:
    rules = RulesUnderTest(policy("sticky-target", **parameters), pool=POOL)
    body = BODY.replace(b'"m"', b'"llama"')
    headers = {"x-session-id": "s", "x-llm-d-inference-fairness-id": "t"}
    results = [rules.send(body, headers=headers).decision for _ in range(6)]
    assert (len({result.target_model for result in results if result}) == 1) is sticky
