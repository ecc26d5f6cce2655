"""The text that a client wrote, by API: for rules that judge or look up what is asked.

Other than a fingerprint it leaves out tools, and pictures and sounds with what stands for them.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pointsman_router.core.request_parsers.prompt_text import Content, LeafPart, RerankDocument

USER = "user"


class _Turn(msgspec.Struct, frozen=True):
    role: str = ""
    content: Content = None
    arguments: str | None = None


class _Conversation(msgspec.Struct, frozen=True):
    """Chat completions and Anthropic's messages."""

    system: Content = None
    messages: list[_Turn] | None = None


class _Responses(msgspec.Struct, frozen=True):
    instructions: str | None = None
    input: str | list[_Turn] | None = None
    items: list[_Turn] | None = None


_Prompts = str | list[str | int | list[int]] | None


class _Prompt(msgspec.Struct, frozen=True):
    """Completions and images."""

    prompt: _Prompts = None


class _Input(msgspec.Struct, frozen=True):
    """Embeddings."""

    input: _Prompts = None


class _Rerank(msgspec.Struct, frozen=True):
    query: str = ""
    documents: list[str | RerankDocument] | None = None


_DECODERS: Mapping[str, msgspec.json.Decoder[msgspec.Struct]] = {
    "openai-chat": msgspec.json.Decoder(_Conversation),
    "anthropic-messages": msgspec.json.Decoder(_Conversation),
    "anthropic-count-tokens": msgspec.json.Decoder(_Conversation),
    "openai-responses": msgspec.json.Decoder(_Responses),
    "openai-conversations": msgspec.json.Decoder(_Responses),
    "openai-completions": msgspec.json.Decoder(_Prompt),
    "openai-images": msgspec.json.Decoder(_Prompt),
    "openai-embeddings": msgspec.json.Decoder(_Input),
    "rerank": msgspec.json.Decoder(_Rerank),
}


def last_user_text(api: str, body: bytes) -> str:
    """The text of the last user turn, or of the only prompt; empty where there is none."""
    last = ""
    for role, text in _turns(api, body):
        if role == USER and text:
            last = text
    return last


def texts(api: str, body: bytes) -> list[str]:
    """All text of the prompt, by turn, the system prompt first."""
    return [text for _, text in _turns(api, body) if text]


def _turns(api: str, body: bytes) -> Iterator[tuple[str, str]]:
    """Role and text of each turn. A prompt without turns is the user's."""
    decoder = _DECODERS.get(api)
    if decoder is None:
        return
    match decoder.decode(body):
        case _Conversation(system=system, messages=messages):
            yield "system", _text(system)
            yield from _each(messages)
        case _Responses(instructions=instructions, input=given, items=items):
            yield "system", instructions or ""
            if isinstance(given, str):
                yield USER, given
            else:
                yield from _each(given)
            yield from _each(items)
        case _Prompt(prompt=prompts) | _Input(input=prompts):
            yield from ((USER, text) for text in _strings(prompts))
        case _Rerank(query=query, documents=documents):
            for document in documents or ():
                yield "document", document if isinstance(document, str) else document.text or ""
            yield USER, query
        case _:
            return


def _each(turns: Sequence[_Turn] | None) -> Iterator[tuple[str, str]]:
    return ((turn.role, _text(turn.content) + (turn.arguments or "")) for turn in turns or ())


def _strings(prompts: _Prompts) -> list[str]:
    if isinstance(prompts, str):
        return [prompts]
    return [prompt for prompt in prompts or () if isinstance(prompt, str)]


def _text(content: str | Sequence[LeafPart] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(
        text
        for part in content
        if (text := part.text or part.thinking or _text(getattr(part, "content", None)))
    )
