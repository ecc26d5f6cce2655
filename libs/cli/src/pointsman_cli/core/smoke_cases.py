"""What any client may ask a gateway, and how to tell whether the answer is right."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pointsman_cli.core.sample_pool import LORA, MODEL


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content_type: str
    body: bytes


Judge = Callable[[Answer], str]
"""What is wrong with the answer; empty when nothing is."""


@dataclass(frozen=True, slots=True)
class SmokeCase:
    name: str
    path: str
    body: bytes | None
    """`None`: a GET."""
    judge: Judge


def smoke_cases(model: str = MODEL, lora: str = LORA) -> tuple[SmokeCase, ...]:
    """An empty `lora` leaves its case out."""
    chat, completions = "/v1/chat/completions", "/v1/completions"
    cases = [
        SmokeCase("chat", chat, _chat(model), _is_chat),
        SmokeCase("chat, streamed", chat, _chat(model, stream=True), _is_stream),
        SmokeCase("completion", completions, _completion(model), _is_completion),
        SmokeCase("completion, streamed", completions, _completion(model, stream=True), _is_stream),
        SmokeCase("models", "/v1/models", None, _lists(model)),
        SmokeCase("unknown model", chat, _chat("no-such-model"), _refused(404)),
        SmokeCase("malformed JSON", chat, b'{"model": ', _refused(400)),
        SmokeCase("no model", chat, b'{"messages": []}', _refused(400)),
        SmokeCase("empty body", chat, b"", _refused(400)),
    ]
    if lora:
        cases.insert(2, SmokeCase("chat with an adapter", chat, _chat(lora), _is_chat))
    return tuple(cases)


def _chat(model: str, **more: Any) -> bytes:
    messages = [{"role": "user", "content": "Where does this train go?"}]
    return json.dumps({"model": model, "max_tokens": 8, "messages": messages, **more}).encode()


def _completion(model: str, **more: Any) -> bytes:
    return json.dumps({"model": model, "max_tokens": 8, "prompt": "This train", **more}).encode()


def _is_chat(answer: Answer) -> str:
    return _judged(answer, lambda document: document["choices"][0]["message"]["content"])


def _is_completion(answer: Answer) -> str:
    return _judged(answer, lambda document: document["choices"][0]["text"])


def _lists(model: str) -> Judge:
    def judge(answer: Answer) -> str:
        return _judged(answer, lambda document: model in [item["id"] for item in document["data"]])

    return judge


def _judged(answer: Answer, read: Callable[[Any], Any]) -> str:
    if answer.status != 200:
        return f"status {answer.status}: {_shortened(answer.body)}"
    try:
        found = read(json.loads(answer.body))
    except (ValueError, LookupError, TypeError):
        return f"not the expected document: {_shortened(answer.body)}"
    return "" if found else f"nothing in it: {_shortened(answer.body)}"


def _is_stream(answer: Answer) -> str:
    if answer.status != 200:
        return f"status {answer.status}: {_shortened(answer.body)}"
    if not answer.content_type.startswith("text/event-stream"):
        return f"content type {answer.content_type!r} is no event stream"
    events = [line[6:] for line in answer.body.splitlines() if line.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        return f"does not end with [DONE] after {len(events)} events"
    try:
        chunks: list[Mapping[str, Any]] = [json.loads(event) for event in events[:-1]]
    except ValueError:
        return "an event is not JSON"
    return "" if len(chunks) > 1 else "came in one piece"


def _refused(status: int) -> Judge:
    """With OpenAI's error form."""

    def judge(answer: Answer) -> str:
        if answer.status != status:
            return f"status {answer.status} instead of {status}: {_shortened(answer.body)}"
        try:
            message = json.loads(answer.body)["error"]["message"]
        except (ValueError, LookupError, TypeError):
            return f"no error object: {_shortened(answer.body)}"
        return "" if message else "no reason"

    return judge


def _shortened(body: bytes) -> str:
    text = " ".join(body[:300].decode(errors="replace").split())
    return text if len(body) <= 300 else f"{text}…"
