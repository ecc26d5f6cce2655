"""Rules of a RoutePolicy and weights of a rewrite through Envoy, as the unmodified `openai` and
`anthropic` clients and the engine see them."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
import yaml
from support.rule_peers import PASSAGES, RulePeers
from support.whole_stack import WholeStack

REASON = "x-llm-d-request-dropped-reason"
REQUESTS, CONCURRENCY, USERS = 1_000, 32, 40


def rules(port: int) -> list[dict[str, Any]]:
    """Each applies to the requests whose header `x-rule` names it."""
    peers = f"http://127.0.0.1:{port}"
    parameters: dict[str, dict[str, Any]] = {
        "system-prompt": {"text": "You serve {{ tenant }}."},
        "validate": {"maxOutputTokens": 100, "allowedModels": ["llama"]},
        "header-edit": {"set": {"x-team": "{{ model }}-team"}, "remove": ["x-secret"]},
        "rag-callout": {"url": f"{peers}/search", "topK": 1},
        "moderation-callout": {"url": f"{peers}/moderate"},
        "sticky-target": {"by": "header", "header": "x-session-id"},
    }
    waits = {"timeout": "20s"}  # the machine may be busy, and none of them is slow
    return [
        {"name": name, "type": name, "match": {"header": {"x-rule": name}}, "parameters": given}
        | (waits if "callout" in name else {})
        for name, given in parameters.items()
    ] + [
        {
            "name": "nobody-answers",
            "type": "moderation-callout",
            "match": {"header": {"x-rule": "nobody-answers"}},
            "parameters": {"url": "http://127.0.0.1:1/"},
        }
    ]


def manifests(port: int) -> dict[str, str]:
    pool = {"poolRef": {"name": "llama"}}
    targets = [{"modelRewrite": "stable", "weight": 90}, {"modelRewrite": "canary", "weight": 10}]
    rule = {"matches": [{"model": {"value": "split"}}], "targets": targets}
    return {
        "rules.yaml": yaml.safe_dump(
            {
                "apiVersion": "pointsman.dev/v1alpha1",
                "kind": "RoutePolicy",
                "metadata": {"name": "team", "namespace": "default"},
                "spec": {**pool, "rules": rules(port)},
            }
        ),
        "rewrite.yaml": yaml.safe_dump(
            {
                "apiVersion": "llm-d.ai/v1alpha2",
                "kind": "InferenceModelRewrite",
                "metadata": {"name": "canary", "namespace": "default"},
                "spec": {**pool, "rules": [rule]},
            }
        ),
    }


@pytest.fixture(scope="module")
def peers() -> Iterator[RulePeers]:
    serving = RulePeers()
    yield serving
    serving.close()


@pytest.fixture(scope="module")
def stack(peers: RulePeers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    with WholeStack(
        tmp_path_factory.mktemp("rules"),
        endpoints=(peers.port,),
        manifests=manifests(peers.port),
        served_models="llama,stable,canary",
        settings={
            "router": {"callout_budget_s": 20},
            "ext_proc": {"route_timeout_s": 30},
        },
    ) as started:
        yield started


class Clients:
    """Ask as two SDKs do, and see what the engine got."""

    def __init__(self, stack: WholeStack, peers: RulePeers) -> None:
        self._peers = peers
        self._openai = openai.OpenAI(
            base_url=f"{stack.url}/v1", api_key="unused", max_retries=0, timeout=60
        )
        self._anthropic = anthropic.Anthropic(
            base_url=stack.url, api_key="unused", max_retries=0, timeout=60
        )

    def close(self) -> None:
        self._openai.close()
        self._anthropic.close()

    def chat(self, rule: str, text: str = "Hello", *, max_tokens: int = 8, **headers: str) -> Any:
        """What the engine got of an OpenAI client's request: its body and headers."""
        before = len(self._peers.sent)
        answer = self._openai.chat.completions.create(
            model="llama",
            max_tokens=max_tokens,
            messages=[{"role": "user", "content": text}],
            extra_headers={"x-rule": rule, **_dashed(headers)},
        )
        assert answer.choices[0].message.content == "yes"
        return self._got(before)

    def messages(
        self, rule: str, text: str = "Hello", *, max_tokens: int = 8, **headers: str
    ) -> Any:
        """The same of an Anthropic client's."""
        before = len(self._peers.sent)
        answer = self._anthropic.messages.create(
            model="llama",
            max_tokens=max_tokens,
            messages=[{"role": "user", "content": text}],
            extra_headers={"x-rule": rule, **_dashed(headers)},
        )
        assert [block.text for block in answer.content if block.type == "text"] == ["yes"]
        return self._got(before)

    def _got(self, before: int) -> Any:
        [sent] = self._peers.sent[before:]
        return json.loads(sent.body), sent.headers


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture(scope="module")
def clients(stack: WholeStack, peers: RulePeers) -> Iterator[Clients]:
    opened = Clients(stack, peers)
    yield opened
    opened.close()


def test_a_system_prompt_is_put_where_each_api_has_it(clients: Clients) -> None:
    body, _ = clients.chat("system-prompt", x_llm_d_inference_fairness_id="acme")
    assert body["messages"] == [
        {"role": "system", "content": "You serve acme."},
        {"role": "user", "content": "Hello"},
    ]
    body, _ = clients.messages("system-prompt", x_llm_d_inference_fairness_id="acme")
    assert body["system"] == "You serve acme."
    assert body["messages"] == [{"role": "user", "content": "Hello"}]


def test_a_request_that_is_not_valid_is_the_clients_error(
    clients: Clients, peers: RulePeers
) -> None:
    body, _ = clients.chat("validate", max_tokens=100)
    assert body["max_tokens"] == 100
    before = len(peers.sent)
    why = "101 output tokens are asked for; allowed are 100"
    with pytest.raises(openai.BadRequestError) as refused:
        clients.chat("validate", max_tokens=101)
    assert why in refused.value.message and refused.value.param == "max_tokens"
    assert refused.value.response.headers[REASON] == "rejected-by-rule"
    with pytest.raises(anthropic.BadRequestError, match=why) as other:
        clients.messages("validate", max_tokens=101)
    assert other.value.response.headers[REASON] == "rejected-by-rule"
    assert len(peers.sent) == before


def test_headers_are_set_and_removed_on_the_way(clients: Clients) -> None:
    for ask in (clients.chat, clients.messages):
        _, headers = ask("header-edit", x_secret="s", x_kept="k")  # noqa: S106  (a header's name)
        assert (headers["x-team"], headers["x-kept"]) == ("llama-team", "k")
        assert "x-secret" not in headers


def test_a_retrievers_passage_stands_before_the_question(clients: Clients) -> None:
    question = "When does the night tram leave?"
    for ask in (clients.chat, clients.messages):
        body, _ = ask("rag-callout", question)
        [turn] = body["messages"]
        text = turn["content"] if isinstance(turn["content"], str) else str(turn["content"])
        assert PASSAGES[0] in text and question in text
        assert text.index(PASSAGES[0]) < text.index(question)
        assert PASSAGES[1] not in text


def test_what_moderation_refuses_is_the_clients_error_with_the_reason(
    clients: Clients, peers: RulePeers
) -> None:
    clients.chat("moderation-callout", "bread")
    clients.messages("moderation-callout", "bread")
    before = len(peers.sent)
    with pytest.raises(openai.BadRequestError, match="no explosives on board"):
        clients.chat("moderation-callout", "dynamite")
    with pytest.raises(anthropic.BadRequestError, match="no explosives on board"):
        clients.messages("moderation-callout", "dynamite")
    with pytest.raises(openai.InternalServerError) as failed:
        clients.chat("nobody-answers")
    assert failed.value.status_code == 503
    assert failed.value.response.headers[REASON] == "rule-failed"
    assert len(peers.sent) == before


async def split(url: str, sessions: list[str]) -> list[str]:
    """Ask for the model `split` once for each session (empty: none), all at once to a bound."""
    free = asyncio.Semaphore(CONCURRENCY)
    messages = [{"role": "user", "content": "Hello"}]

    async def one(client: aiohttp.ClientSession, session: str) -> str:
        sticky = {"x-rule": "sticky-target", "x-session-id": session} if session else {}
        asked = {"model": "split", "messages": messages, "user": session}
        async with free, client.post("/v1/chat/completions", json=asked, headers=sticky) as reply:
            assert reply.status == 200, await reply.text()
            return str((await reply.json())["model"])

    timeout = aiohttp.ClientTimeout(total=100)
    async with aiohttp.ClientSession(url, timeout=timeout) as client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(client, session)) for session in sessions]
    return [task.result() for task in tasks]


async def test_a_canary_gets_exactly_its_share_of_a_thousand_requests(
    stack: WholeStack, peers: RulePeers
) -> None:
    before = len(peers.sent)
    answered = await split(stack.url, [""] * REQUESTS)
    assert set(answered) == {"split"}, "the client gets the name that it asked for"
    served = Counter(json.loads(sent.body)["model"] for sent in peers.sent[before:])
    assert served == {"stable": 900, "canary": 100}


async def test_a_session_keeps_its_target(stack: WholeStack, peers: RulePeers) -> None:
    before = len(peers.sent)
    await split(stack.url, [f"session-{number % USERS}" for number in range(3 * USERS)])
    targets: dict[str, set[str]] = defaultdict(set)
    for sent in peers.sent[before:]:
        body = json.loads(sent.body)
        targets[body["user"]].add(body["model"])
    assert [len(kept) for kept in targets.values()] == [1] * USERS
    # A hash decides, so these sessions always have the same: some of each.
    assert {next(iter(kept)) for kept in targets.values()} == {"stable", "canary"}
