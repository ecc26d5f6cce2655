"""What bytes does a model see of a chat? A plain template, stable under added turns.

A prompt with one more turn begins with the very bytes of the shorter one, so that a conversation
finds its prefix in the cache, as with the templates of real models.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

ANSWER_CUE = b"<|assistant|>\n"

_encoder = msgspec.json.Encoder(order="deterministic")


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn of a chat; fields of the API that the template leaves out are not kept."""

    role: str
    content: str | Sequence[Mapping[str, object]] | None = None
    tool_calls: Sequence[Mapping[str, object]] | None = None


def render_chat(
    messages: Iterable[ChatMessage], tools: Sequence[Mapping[str, object]] | None
) -> bytes:
    """Return the prompt of a chat: tools, each turn, and the cue to answer."""
    parts = [b"<|tools|>\n", _encoder.encode(tools), b"\n"] if tools else []
    for message in messages:
        parts += (b"<|", _utf8(message.role), b"|>\n")
        content = message.content
        if isinstance(content, str):
            parts.append(_utf8(content))
        elif content is not None:
            parts += [_render_part(part) for part in content]
        if message.tool_calls:
            parts.append(_encoder.encode(message.tool_calls))
        parts.append(b"\n")
    parts.append(ANSWER_CUE)
    return b"".join(parts)


def _render_part(part: Mapping[str, object]) -> bytes:
    text = part.get("text")
    if isinstance(text, str):
        return _utf8(text)
    return _encoder.encode(part)  # an image or the like stands for itself


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON may hold lone surrogates
