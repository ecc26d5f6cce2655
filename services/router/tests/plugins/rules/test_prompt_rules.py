"""The rules that write into prompts, and those that ask before they do."""

import json
from typing import Any

import pytest

from pointsman_router.core.rules.callout import Callout, HttpCallout, RuleFailedError
from pointsman_router.rules_testing import RulesUnderTest, Tried, try_rules

CHAT = b'{"model":"llama","messages":[{"role":"user","content":"Where is the depot?"}]}'


def policy(type_name: str, more: str = "", **parameters: Any) -> str:
    shown = json.dumps(parameters)
    return f"rules: [{{name: r, type: {type_name}, parameters: {shown}{more}}}]"


def test_a_system_prompt_knows_the_request() -> None:
    text = "Serve {{ tenant }} with {{ model }}, {{ header.x-plan }}."
    headers = {"x-plan": "{{ model }}", "x-llm-d-inference-fairness-id": 'a"b'}
    result = try_rules(policy("system-prompt", text=text), CHAT, headers=headers)
    assert json.loads(result.body)["messages"][0] == {
        "role": "system",
        "content": 'Serve a"b with llama, {{ model }}.',
    }
    assert result.body.endswith(CHAT[len(b'{"model":"llama","messages":[') :])


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/files"])
def test_a_system_prompt_where_there_is_none_is_the_rules_failure(path: str) -> None:
    body = b'{"model":"llama","input":"x"}'
    result = try_rules(policy("system-prompt", text="S"), body, path=path)
    assert result.refusal is not None and result.refusal.http_status == 400
    result = try_rules(policy("system-prompt", ", onFailure: skip", text="S"), body, path=path)
    assert result.refusal is None and result.body == body


class Retriever:
    def __init__(self, reply: object) -> None:
        self.reply = reply
        self.asked: list[dict[str, Any]] = []

    def __call__(self, callout: Callout) -> bytes:
        assert isinstance(callout, HttpCallout)
        self.asked.append(json.loads(callout.body))
        if isinstance(self.reply, RuleFailedError):
            raise self.reply
        return self.reply if isinstance(self.reply, bytes) else json.dumps(self.reply).encode()


def retrieved(reply: object, body: bytes = CHAT, **parameters: Any) -> Tried:
    given = policy("rag-callout", url="http://rag/q", **parameters)
    return try_rules(given, body, answer=Retriever(reply))


PASSAGES = {"passages": [{"text": "The depot is in Crewe.", "source": "a.md"}, "{{ model }}", "x"]}


def test_passages_go_before_the_last_user_turn() -> None:
    result = retrieved(PASSAGES, topK=2)
    assert json.loads(result.body)["messages"][0]["content"] == (
        "Use this context where it helps:\n[1] The depot is in Crewe.\n[2] {{ model }}"
        "\n\nWhere is the depot?"
    )


def test_passages_may_go_elsewhere_in_another_form() -> None:
    given: dict[str, Any] = {
        "template": "<{{ query }}> {{passages}}",
        "passageTemplate": "{{source}}: {{text}}",
    }
    result = retrieved(PASSAGES, place="system", topK=1, **given)
    assert json.loads(result.body)["messages"][0] == {
        "role": "system",
        "content": "<Where is the depot?> a.md: The depot is in Crewe.",
    }
    result = retrieved(PASSAGES, place="after-user", topK=1)
    content = json.loads(result.body)["messages"][0]["content"]
    assert content.startswith("Where is the depot?\n\nUse this")


def test_the_context_keeps_its_budget() -> None:
    reply = {"passages": ["a" * 50, "b" * 5000, "c" * 40]}
    body = retrieved(reply, maxContextCharacters=100).body
    assert b"a" * 50 in body and b"bbb" not in body and b"c" * 40 in body


def test_a_retriever_is_asked_the_end_of_a_long_turn_and_once_for_each_tenant() -> None:
    retriever = Retriever(PASSAGES)
    given = policy("rag-callout", url="http://rag/q", maxQueryCharacters=10, cacheTtl="10s")
    rules = RulesUnderTest(given, answer=retriever)
    tenant = {"x-llm-d-inference-fairness-id": "t"}
    first = rules.send(CHAT, headers=tenant)
    assert rules.send(CHAT, headers=tenant, now=1_009.9).body == first.body
    assert retriever.asked == [{"query": "the depot?", "top_k": 4, "model": "llama", "tenant": "t"}]
    rules.send(CHAT, now=1_001.0)
    rules.send(CHAT, headers=tenant, now=1_010.0)
    assert len(retriever.asked) == 3


@pytest.mark.parametrize(
    "body",
    [
        CHAT.replace(b"Where is the depot?", b" "),
        CHAT.replace(b"user", b"assistant"),
    ],
)
def test_without_a_question_nobody_is_asked(body: bytes) -> None:
    result = retrieved(PASSAGES, body)
    assert (result.body, result.asked) == (body, [])


def test_no_passages_change_nothing() -> None:
    assert retrieved({"passages": []}).body == CHAT


@pytest.mark.parametrize(
    "reply", [b"<html>", b"[]", b'{"passages":"x"}', b'{"passages":[{}]}', b""]
)
def test_an_answer_that_is_none_is_the_rules_failure(reply: bytes) -> None:
    result = retrieved(reply)
    assert result.refusal is not None and result.refusal.http_status == 503
    assert result.report.failures[0][1] == "bad-reply"


def moderated(reply: object, body: bytes = CHAT, more: str = "", **parameters: Any) -> Tried:
    given = policy("moderation-callout", more, url="https://mod/v1", **parameters)
    return try_rules(given, body, answer=Retriever(reply))


def test_moderation_in_the_generic_form() -> None:
    assert moderated({"allowed": True}).refusal is None
    refusal = moderated({"allowed": False, "reason": "spam\n"}, status=422).refusal
    assert refusal is not None
    assert (refusal.http_status, refusal.message) == (422, "refused by moderation: spam ")
    assert refusal.reason == "rejected-by-rule"


def test_moderation_in_openais_form() -> None:
    flagged = {"results": [{"flagged": True, "categories": {"hate": True, "self-harm": False}}]}
    result = moderated(flagged, form="openai", model="omni")
    assert result.refusal is not None
    assert result.refusal.message == "refused by moderation: hate"
    [asked] = result.asked
    assert isinstance(asked, HttpCallout)
    assert json.loads(asked.body) == {"input": ["Where is the depot?"], "model": "omni"}
    assert moderated(flagged, form="openai", categories=["violence"]).refusal is None
    assert moderated({"results": [{"flagged": False}]}, form="openai").refusal is None


def test_moderation_fails_closed_or_open_as_the_rule_says() -> None:
    down = RuleFailedError(RuleFailedError.TIMEOUT, "slow")
    refusal = moderated(down).refusal
    assert refusal is not None and refusal.http_status == 503
    replies: tuple[object, ...] = (down, {"results": []}, b"no")
    for reply in replies:
        assert moderated(reply, more=", onFailure: skip").refusal is None


def test_a_prompt_too_long_to_judge_is_not_judged_by_its_beginning() -> None:
    result = moderated({"allowed": True}, maxCharacters=5)
    assert result.refusal is not None and result.asked == []


@pytest.mark.parametrize(
    ("path", "body", "texts"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]},
            ["s", "u"],
        ),
        (
            "/v1/messages",
            {
                "system": "s",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "source": {"data": "0000"}},
                            {"type": "tool_result", "content": [{"type": "text", "text": "t"}]},
                            {"type": "text", "text": "u"},
                        ],
                    }
                ],
            },
            ["s", "t\nu"],
        ),
        ("/v1/responses", {"instructions": "s", "input": "u"}, ["s", "u"]),
        ("/v1/completions", {"prompt": ["a", "b"]}, ["a", "b"]),
        ("/v1/embeddings", {"input": "a"}, ["a"]),
        ("/v1/rerank", {"query": "q", "documents": ["d", {"text": "e"}]}, ["d", "e", "q"]),
    ],
)
def test_all_text_of_each_api_can_be_judged(
    path: str, body: dict[str, Any], texts: list[str]
) -> None:
    retriever = Retriever({"allowed": True})
    given = policy("moderation-callout", url="http://mod/", texts="all")
    try_rules(given, json.dumps({"model": "m", **body}).encode(), answer=retriever, path=path)
    assert [asked["texts"] for asked in retriever.asked] == [texts]
