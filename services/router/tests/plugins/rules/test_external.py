import json
from typing import Any

import pytest

from pointsman_common.contracts.rule_callout_pb2 import RuleRequest, RuleResponse
from pointsman_router.core.rules.callout import Callout, HttpCallout, RpcCallout
from pointsman_router.rules_testing import Tried, try_rules

BODY = '{"model":"m", "messages":[{"role":"user","content":"hé"}],"t":1.0}'.encode()


def over_http(reply: object, **parameters: Any) -> Tried:
    shown = json.dumps({"url": "http://rule/apply", **parameters})
    given = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    return try_rules(
        f"rules: [{{name: r, type: external, parameters: {shown}}}]",
        BODY,
        answer=lambda _: given,
        headers={"x-plan": "free", "authorization": "secret"},
    )


def test_the_service_sees_the_request_and_only_the_headers_that_are_named() -> None:
    result = over_http({}, sendHeaders=["X-Plan", "x-none"])
    [asked] = result.asked
    assert isinstance(asked, HttpCallout) and result.body == BODY
    assert json.loads(asked.body) == {
        "request_id": "r1",
        "pool": "default/llama",
        "rule": "r",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": {"x-plan": "free"},
        "api": "openai-chat",
        "model": "m",
        "fairness_id": "default-flow",
        "prompt_tokens": 3,
        "last_user_text": "hé",
        "body_text": BODY.decode(),
    }
    [asked] = over_http({}, sendBody=False).asked
    assert isinstance(asked, HttpCallout)
    assert not {"body_text", "last_user_text"} & json.loads(asked.body).keys()


def test_it_changes_keys_headers_model_and_flow() -> None:
    result = over_http(
        {
            "changes": {
                "set": {"t": "[0.5]", "u": '"x"'},
                "headers": {"set": [{"key": "x-a", "value": "Yg=="}], "remove": ["x-plan"]},
                "model": "small",
                "fairness_id": "f",
                "objective": "batch",
            }
        }
    )
    decision = result.decision
    assert decision is not None
    expected = BODY.replace(b"1.0", b"[0.5]").replace(b'"m"', b'"small"')
    assert result.body == b'{"u":"x",' + expected[1:]
    assert decision.set_headers == {"x-a": "b"} and "x-plan" in decision.remove_headers
    assert (decision.target_model, decision.fairness_id) == ("small", "f")
    assert decision.objective == "batch"


def test_it_refuses_in_its_own_words() -> None:
    rejection = {"http_status": 429, "message": "later\n", "retry_after_s": 7, "param": "model"}
    refusal = over_http({"rejection": rejection}).refusal
    assert refusal is not None
    assert (refusal.http_status, refusal.message, refusal.retry_after_s) == (429, "later ", 7)
    assert (refusal.reason, refusal.param) == ("rejected-by-rule", "model")


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"no",
        b"[]",
        b"\xff",
        b'{"changes": 1}',
        {"changes": {"set": {"t": "{"}}},
        {"changes": {"set": {"messages": "1"}}},
        {"changes": {"headers": {"set": [{"key": ":path", "value": "Yg=="}]}}},
        {"changes": {"headers": {"set": [{"key": "x", "value": "/w=="}]}}},
        {"changes": {"set": {"t": "1"}, "body_patch": {"replacement": "e30="}}},
        {"changes": {"body_patch": {"replacement": "e30="}}},
        {"changes": {"body_patch": {"splices": {"splices": [{"offset": 999, "removed": 1}]}}}},
        {"changes": {"body_patch": {"splices": {"splices": [{"removed": 5}, {"offset": 1}]}}}},
        {"rejection": {"http_status": 200}},
    ],
)
def test_an_answer_that_is_none_is_the_rules_failure(reply: object) -> None:
    result = over_http(reply)
    assert result.refusal is not None and result.refusal.http_status == 503
    assert result.report.failures[0][1] == "bad-reply"


def test_fields_that_are_not_known_are_passed_over() -> None:
    assert over_http({"later": 1}).refusal is None


def test_the_same_over_grpc() -> None:
    def answer(callout: Callout) -> bytes:
        assert isinstance(callout, RpcCallout)
        assert callout.method == "/pointsman.routing.v1.RuleCallout/Apply"
        asked = RuleRequest.FromString(callout.message)
        reply = RuleResponse()
        reply.changes.body_patch.replacement = asked.body_text.encode().replace(b"1.0", b"2")
        return reply.SerializeToString()

    policy = "rules: [{name: r, type: external, parameters: {url: 'grpc://rule:1'}}]"
    assert try_rules(policy, BODY, answer=answer).body == BODY.replace(b"1.0", b"2")
    result = try_rules(policy, BODY, answer=lambda _: b"\xff")
    assert result.refusal is not None and result.report.failures[0][1] == "bad-reply"


def test_a_body_that_is_no_json_cannot_have_keys_set() -> None:
    policy = "rules: [{name: r, type: external, parameters: {url: 'http://rule/'}}]"
    reply = b'{"changes":{"set":{"a":"1"}}}'
    result = try_rules(policy, b"\xff\x00", path="/other", answer=lambda _: reply)
    assert result.refusal is not None and result.refusal.http_status == 400
