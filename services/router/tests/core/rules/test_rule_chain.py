import json
from collections.abc import Callable, Generator
from typing import Any

import pytest

from pointsman_router.core.rules.callout import Callout
from pointsman_router.rules import (
    CalloutReply,
    Changes,
    HttpCallout,
    NoParameters,
    Refusal,
    RuleFailedError,
    RuleOutcome,
    RuleRequest,
    RuleType,
    set_json,
)
from pointsman_router.rules_testing import RulesUnderTest, Tried, try_rules

BODY = b'{"model":"m", "messages":[{"role":"user","content":"hi"}], "n":1.0}'


def a_type(apply: Callable[[RuleRequest], Any]) -> RuleType:
    class Given:
        def apply(self, request: RuleRequest) -> Any:
            return apply(request)

    return RuleType(NoParameters, lambda _name, _parameters: Given())


def tried(
    apply: Callable[[RuleRequest], Any], rule: str = "", body: bytes = BODY, **more: Any
) -> Tried:
    policy = f"rules: [{{name: r, type: mine{', ' if rule else ''}{rule}}}]"
    return try_rules(policy, body, types={"mine": a_type(apply)}, **more)


def test_a_rule_that_says_nothing_leaves_every_byte() -> None:
    result = tried(lambda _: None)
    assert result.decision is not None
    assert (result.body, result.decision.splices) == (BODY, ())
    assert result.report.results == [("test/r", "passed")]


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ("{}", True),
        ("{model: m}", True),
        ("{model: [x, 'm*']}", True),
        ("{model: x}", False),
        ("{path: '*/chat/completions'}", True),
        ("{path: /v1/completions}", False),
        ("{header: {X-Plan: 'fr??'}}", True),
        ("{header: {x-other: '*'}}", False),
        ("{objective: high, tenant: 'team-*', api: openai-chat, pool: 'default/*'}", True),
        ("{objective: high, tenant: other}", False),
    ],
)
def test_a_rule_is_for_the_requests_that_it_matches(match: str, matches: bool) -> None:
    result = tried(
        lambda _: Refusal(http_status=403, message="no"),
        f"match: {match}",
        headers={
            "x-plan": "free",
            "x-llm-d-inference-objective": "high",
            "x-llm-d-inference-fairness-id": "team-a",
        },
    )
    assert (result.refusal is not None) is matches


def test_changes_are_seen_by_the_rules_after_and_told_as_one_change_of_the_body() -> None:
    seen: list[RuleRequest] = []

    def first(request: RuleRequest) -> RuleOutcome:
        return Changes(
            splices=set_json(request.body, {"n": 2}),
            set_headers={"X-Team": "a"},
            fairness_id="tenant",
            objective="high",
        )

    def second(request: RuleRequest) -> RuleOutcome:
        seen.append(request)
        return Changes(splices=set_json(request.body, {"user": "u"}), remove_headers=["x-old"])

    result = try_rules(
        "rules: [{name: a, type: first}, {name: b, type: second}]",
        BODY,
        types={"first": a_type(first), "second": a_type(second)},
        headers={"x-old": "1"},
    )
    [request] = seen
    assert (request.fairness_id, request.objective) == ("tenant", "high")
    assert (request.headers.get("x-team"), request.parsed.choices) == ("a", 2)
    decision = result.decision
    assert decision is not None and len(decision.splices) == 1
    assert result.body == BODY.replace(b'{"model"', b'{"user":"u","model"').replace(b"1.0", b"2")
    assert decision.body_bytes == len(result.body)
    assert (decision.fairness_id, decision.objective) == ("tenant", "high")
    assert decision.set_headers == {"x-team": "a"} and "x-old" in decision.remove_headers


def test_the_fingerprint_is_of_the_body_that_is_sent() -> None:
    other = BODY.replace(b"hi", b"hello")
    changed = tried(lambda _: Changes(body=other)).decision
    plain = tried(lambda _: None, body=other).decision
    assert changed is not None and plain is not None
    assert changed.block_hashes == plain.block_hashes


def test_a_rule_names_another_model_and_the_client_gets_its_own_back() -> None:
    result = tried(lambda _: Changes(model="t"))
    assert result.decision is not None
    assert (result.decision.model, result.decision.target_model) == ("m", "t")
    assert json.loads(result.body)["model"] == "t"
    result = tried(lambda request: Changes(splices=set_json(request.body, {"model": "u"})))
    assert result.decision is not None
    assert (result.decision.model, result.decision.target_model) == ("m", "u")


def test_the_first_refusal_ends_it() -> None:
    result = try_rules(
        "rules: [{name: a, type: refusing}, {name: b, type: never}]",
        BODY,
        types={
            "refusing": a_type(
                lambda _: Refusal(http_status=451, message="not here", param="model")
            ),
            "never": a_type(lambda _: 1 / 0),
        },
    )
    assert result.refusal is not None and result.refusal.http_status == 451
    assert result.report.results == [("test/a", "refused")]


@pytest.mark.parametrize(
    ("apply", "kind", "status"),
    [
        (lambda _: 1 / 0, "error", 500),
        (lambda _: "changed", "error", 500),
        (lambda _: Changes(body=b"{"), "bad-reply", 503),
        (lambda _: Changes(set_headers={"content-length": "1"}), "bad-reply", 503),
        (lambda _: Changes(set_headers={":path": "/x"}), "bad-reply", 503),
        (lambda _: Changes(set_headers={"x": "a\r\nb: c"}), "bad-reply", 503),
        (lambda _: Changes(remove_headers=["X-Gateway-Destination-Endpoint"]), "bad-reply", 503),
    ],
)
def test_a_failure_refuses_or_is_skipped_as_the_rule_says(
    apply: Callable[[RuleRequest], Any], kind: str, status: int
) -> None:
    result = tried(apply)
    assert result.refusal is not None
    assert (result.refusal.http_status, result.refusal.reason) == (status, "rule-failed")
    assert result.refusal.message == f"the rule test/r failed: {kind}"
    assert [failure[:2] for failure in result.report.failures] == [("test/r", kind)]
    result = tried(apply, "onFailure: skip")
    assert result.refusal is None and result.body == BODY
    assert result.report.results == [("test/r", "skipped")]


def asking(_: RuleRequest) -> Generator[HttpCallout, CalloutReply, RuleOutcome]:
    first = yield HttpCallout("http://a/", b"1")
    second = yield HttpCallout("http://b/", first.body)
    return Refusal(http_status=400, message=second.body.decode())


def the_url(callout: Callout) -> bytes:
    return callout.url.encode()


def test_a_rule_asks_as_often_as_it_likes() -> None:
    result = tried(asking, answer=the_url)
    assert result.refusal is not None and result.refusal.message == "http://b/"
    assert result.asked == [
        HttpCallout("http://a/", b"1"),
        HttpCallout("http://b/", b"http://a/"),
    ]


def test_a_callout_that_fails_is_the_rules_failure_unless_it_catches_it() -> None:
    result = tried(asking)
    assert result.refusal is not None and result.refusal.http_status == 503

    def catching(_: RuleRequest) -> Generator[HttpCallout, CalloutReply, RuleOutcome]:
        try:
            yield HttpCallout("http://a/", b"1")
        except RuleFailedError as error:
            return Refusal(http_status=429, message=error.kind)
        return None

    result = tried(catching)
    assert result.refusal is not None and result.refusal.message == "unreachable"


def test_a_rule_may_answer_differently_from_request_to_request() -> None:
    rules = RulesUnderTest(
        "rules: [{name: r, type: mine}]",
        types={"mine": a_type(lambda request: None if b"hi" in request.body else 1)},
    )
    assert rules.send(BODY).refusal is None
    assert rules.send(BODY.replace(b"hi", b"ho")).refusal is not None
