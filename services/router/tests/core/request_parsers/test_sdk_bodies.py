"""The bodies that the `openai` and `anthropic` clients really send, recorded here by running them
against a server on loopback: what is read of each, and that no byte of it changes unasked."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any, NamedTuple

import anthropic
import openai
import pytest
from pydantic import BaseModel

from pointsman_common.inference_pool import InferencePool, ModelRule, ModelTarget
from pointsman_router.core.json_splice import applied
from pointsman_router.core.request_headers import RequestHeaders
from pointsman_router.core.request_parsers.registry import ParserRegistry
from pointsman_router.core.request_router import RequestRouter, RoutingDecision

PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
PARAMETERS: dict[str, object] = {
    "type": "object",
    "properties": {"stop": {"type": "string"}},
    "required": ["stop"],
}
TOOL: Any = {"type": "function", "function": {"name": "next_tram", "parameters": PARAMETERS}}
CALL: Any = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "next_tram", "arguments": '{"stop":"Depot"}'},
}


class Recorded(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class Recorder(HTTPServer):
    """Keeps what it is sent and refuses it, which is all that a recording needs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.recorded: list[Recorded] = []
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def record(self, ask: Callable[[], object]) -> Recorded:
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
            ask()
        return self.recorded.pop()


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers["content-length"]))
        self.server.recorded.append(Recorded(self.path, headers, body))
        self.send_response(400)
        self.send_header("content-length", "0")
        self.send_header("connection", "close")
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002  (the base class's name)
        """Says nothing."""


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as serving:
        yield serving
        serving.shutdown()


class Answer(BaseModel):
    stop: str
    minutes: int


def openai_chat(client: openai.OpenAI) -> object:
    return client.chat.completions.create(
        model="m",
        messages=[
            {"role": "developer", "content": "Be brief: naïve 🚋 \u2028"},
            {"role": "user", "content": "When?", "name": "ann"},
        ],
        max_completion_tokens=40,
        n=2,
        stream=True,
        stream_options={"include_usage": True},
        temperature=1e-7,
        seed=12345678901234567,
        extra_body={"cache_salt": "s", "top_k": 5},
    )


def openai_chat_tools(client: openai.OpenAI) -> object:
    return client.chat.completions.create(
        model="m",
        tools=[TOOL],
        tool_choice="auto",
        max_tokens=9,
        messages=[
            {"role": "user", "content": "When?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": '{"minutes":4}'},
        ],
    )


def openai_chat_structured(client: openai.OpenAI) -> object:
    return client.chat.completions.parse(
        model="m", messages=[{"role": "user", "content": "When?"}], response_format=Answer
    )


def openai_chat_image(client: openai.OpenAI) -> object:
    return client.chat.completions.create(
        model="m",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Which stop?"},
                    {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
                ],
            }
        ],
    )


def openai_completion(client: openai.OpenAI) -> object:
    return client.completions.create(model="m", prompt=["When?", "Where?"], max_tokens=3)


def openai_completion_of_ids(client: openai.OpenAI) -> object:
    return client.completions.create(model="m", prompt=[[1, 2, 3], [4]], max_tokens=3)


def openai_responses(client: openai.OpenAI) -> object:
    return client.responses.create(
        model="m",
        instructions="Be brief.",
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "When?"}]},
            {"type": "function_call", "call_id": "c", "name": "next_tram", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "4"},
        ],
        tools=[{"type": "function", "name": "next_tram", "parameters": PARAMETERS, "strict": True}],
        max_output_tokens=30,
        stream=True,
    )


def openai_embeddings(client: openai.OpenAI) -> object:
    return client.embeddings.create(model="m", input=["When?", "Where?"])


def anthropic_messages(client: anthropic.Anthropic) -> object:
    return client.messages.create(
        model="m",
        max_tokens=50,
        system=[{"type": "text", "text": "Brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "user", "content": "When? 🚋"},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "t", "name": "next_tram", "input": {"stop": "Depot"}}
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": "4"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K"},
                    },
                ],
            },
        ],
        tools=[{"name": "next_tram", "input_schema": {"type": "object", "properties": {}}}],
    )


def anthropic_stream(client: anthropic.Anthropic) -> object:
    return client.messages.create(
        model="m", max_tokens=5, stream=True, messages=[{"role": "user", "content": "When?"}]
    )


def anthropic_count(client: anthropic.Anthropic) -> object:
    return client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "When?"}])


class Told(NamedTuple):
    """What the router is to say of a recorded body."""

    api: str
    prompt: bytes
    """Within one of the prompts."""
    stream: bool = False
    max_output_tokens: int = 0
    choices: int = 0
    prompt_tokens: int | None = None
    cache_salt: str = ""


OPENAI = [
    (openai_chat, Told("openai-chat", "naïve 🚋 \u2028".encode(), True, 40, 2, cache_salt="s")),
    (openai_chat_tools, Told("openai-chat", b'"arguments":"{\\"stop\\":', max_output_tokens=9)),
    (openai_chat_structured, Told("openai-chat", b"When?")),
    (openai_chat_image, Told("openai-chat", b"Which stop?", prompt_tokens=304)),
    (openai_completion, Told("openai-completions", b"Where?", False, 3, prompt_tokens=4)),
    (
        openai_completion_of_ids,
        Told("openai-completions", b"\1\0\0\0\2", False, 3, prompt_tokens=4),
    ),
    (openai_responses, Told("openai-responses", b"next_tram{}", True, 30)),
    (openai_embeddings, Told("openai-embeddings", b"Where?")),
]
ANTHROPIC = [
    (anthropic_messages, Told("anthropic-messages", b'next_tram{"stop":"Depot"}', False, 50)),
    (anthropic_stream, Told("anthropic-messages", b"When?", True, 5)),
    (anthropic_count, Told("anthropic-count-tokens", b"When?")),
]


@pytest.fixture(params=[*OPENAI, *ANTHROPIC], ids=lambda case: case[0].__name__)
def recording(request: pytest.FixtureRequest, recorder: Recorder) -> Iterator[Any]:
    ask, told = request.param
    if "openai" in ask.__name__:
        client: Any = openai.OpenAI(base_url=f"{recorder.url}/v1", api_key="k", max_retries=0)
    else:
        client = anthropic.Anthropic(base_url=recorder.url, api_key="k", max_retries=0)
    with client:
        yield recorder.record(lambda: ask(client)), told


def routed(sent: Recorded, *rules: ModelRule) -> RoutingDecision:
    router = RequestRouter(
        InferencePool(name="default/llama", model_rules=rules),
        ParserRegistry.from_config(None),
        max_prefix_blocks=2048,
        forwarded_headers=(),
    )
    headers = {":method": "POST", ":path": sent.path, **sent.headers}
    items = ((name, value.encode()) for name, value in headers.items())
    return router.route(RequestHeaders(items), sent.body, bodiless=False)


def test_a_recorded_body_is_read_and_goes_on_byte_for_byte(
    recording: tuple[Recorded, Told],
) -> None:
    sent, told = recording
    decision = routed(sent)
    parsed = decision.parsed
    assert (parsed.api, parsed.model, parsed.stream) == (told.api, "m", told.stream)
    assert (parsed.max_output_tokens, parsed.choices) == (told.max_output_tokens, told.choices)
    assert parsed.cache_salt == told.cache_salt
    assert any(told.prompt in prompt for prompt in parsed.prompts)
    assert decision.prompt_tokens == (told.prompt_tokens or decision.prompt_tokens) > 0
    assert decision.splices == () and decision.body_bytes == len(sent.body)


def test_a_rewrite_of_a_recorded_body_changes_the_model_and_nothing_else(
    recording: tuple[Recorded, Told],
) -> None:
    sent, _ = recording
    rule = ModelRule("r", frozenset({"m"}), (ModelTarget("modèle-2"),))
    decision = routed(sent, rule)
    changed = applied(sent.body, decision.splices)
    assert sent.body.count(b'"model":"m"') == 1
    assert changed == sent.body.replace(b'"model":"m"', '"model":"modèle-2"'.encode())
    assert decision.body_bytes == len(changed)
    before = json.loads(sent.body)
    assert json.loads(changed) == {**before, "model": "modèle-2"}
    assert list(json.loads(changed)) == list(before)
