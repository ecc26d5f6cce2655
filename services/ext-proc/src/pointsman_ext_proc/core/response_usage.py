"""Token counts of an answer: from a JSON body, or from server-sent events however they are cut.

Understands OpenAI's chat, completions, embeddings and responses, and Anthropic's messages.
"""

from typing import Any

import msgspec

from pointsman_ext_proc.core.exchange_events import Usage

_MARK = b'"usage"'
"""A quoted key. It cannot occur within a JSON text, where the quotes would be escaped."""

_MAX_LINE_BYTES = 1 << 20
"""A longer event is not looked at: counts never come in such."""


class _Answer(msgspec.Struct):
    """The few fields that may hold counts; everything else is skipped undecoded."""

    usage: Any = None
    response: Any = None
    message: Any = None


_decoder = msgspec.json.Decoder(_Answer)


def usage_in_json(body: bytes) -> Usage | None:
    """The counts of a whole JSON answer or of one event's data; `None`: it tells none."""
    if _MARK not in body:
        return None
    try:
        answer = _decoder.decode(body)
    except msgspec.DecodeError:
        return None
    for holder in (answer.response, answer.message):
        if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
            return _usage(holder["usage"])
    return _usage(answer.usage) if isinstance(answer.usage, dict) else None


class SseUsage:
    """Feed it the chunks of a stream; ask at the end.

    Only the first and the last event with counts are kept, and decoded when asked: OpenAI's
    streams tell all in the last, Anthropic's the prompt in the first.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        self._first = b""
        self._last = b""

    def feed(self, chunk: bytes) -> None:
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._keep(chunk)
            return
        lines = self._rest + chunk[:end] if self._rest else chunk[:end]
        if self._skipping:  # the rest of a line that was too long
            lines = lines[lines.index(b"\n") :]
            self._skipping = False
        self._rest = chunk[end:]
        if _MARK in lines:
            self._note(lines)

    def result(self) -> Usage | None:
        """The counts so far; a last line without its newline counts too."""
        if not self._skipping and _MARK in self._rest:
            self._note(self._rest)
        first = usage_in_json(self._first)
        last = first if self._last is self._first else usage_in_json(self._last)
        if first is None or last is None:
            return last or first
        return Usage(
            prompt_tokens=last.prompt_tokens or first.prompt_tokens,
            output_tokens=first.output_tokens if last.output_tokens is None else last.output_tokens,
            cached_tokens=last.cached_tokens or first.cached_tokens,
        )

    def _keep(self, chunk: bytes) -> None:
        if self._skipping:
            return
        if len(self._rest) + len(chunk) > _MAX_LINE_BYTES:
            self._rest, self._skipping = b"", True
            return
        self._rest += chunk

    def _note(self, lines: bytes) -> None:
        for line in lines.split(b"\n"):
            if _MARK in line and line.startswith(b"data:"):
                data = line[5:].strip()
                self._last = data
                if not self._first:
                    self._first = data


def _usage(counts: dict[str, Any]) -> Usage:
    prompt = _count(counts, "prompt_tokens")
    cached = _detail(counts, "prompt_tokens_details")
    if prompt is None:
        prompt, cached = _count(counts, "input_tokens"), _detail(counts, "input_tokens_details")
        read = _count(counts, "cache_read_input_tokens")
        written = _count(counts, "cache_creation_input_tokens")
        if prompt is not None and (read is not None or written is not None):
            # Anthropic counts in input_tokens only what the cache did not take part in.
            prompt += (read or 0) + (written or 0)
            cached = read
    output = _count(counts, "completion_tokens")
    if output is None:
        output = _count(counts, "output_tokens")
    return Usage(prompt_tokens=prompt, output_tokens=output, cached_tokens=cached)


def _count(counts: dict[str, Any], name: str) -> int | None:
    value = counts.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32:
        return value
    return None


def _detail(counts: dict[str, Any], name: str) -> int | None:
    details = counts.get(name)
    return _count(details, "cached_tokens") if isinstance(details, dict) else None
