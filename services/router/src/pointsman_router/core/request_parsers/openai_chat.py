"""OpenAI's `POST /v1/chat/completions`, with vLLM's additions."""

import msgspec

from pointsman_router.core.request_parsers.json_body import (
    OptionalRaw,
    Tokens,
    decode_body,
    invalid,
    model_of,
    raw_bytes,
    token_count,
)
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.prompt_text import (
    MESSAGE,
    ROLE,
    Content,
    content_text,
    conversation,
)

REQUEST = "chat completions"


class _Message(msgspec.Struct, frozen=True):
    role: str = ""
    content: Content = None
    tool_calls: OptionalRaw = msgspec.UNSET


class _Body(msgspec.Struct, frozen=True):
    model: str | None = None
    messages: list[_Message] | None = None
    tools: OptionalRaw = msgspec.UNSET
    stream: bool | None = None
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None
    cache_salt: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


class OpenAiChatParser:
    path_suffixes = ("chat/completions", "chat/completions/render")

    def parse(self, body: bytes) -> ParsedRequest:
        read = decode_body(_DECODER, body, request=REQUEST)
        if not read.messages:
            raise invalid(REQUEST, "must have valid messages field", param="messages")
        return ParsedRequest(
            api="openai-chat",
            model=model_of(read.model),
            prompts=(conversation(read.tools, map(_message_text, read.messages)),),
            stream=bool(read.stream),
            max_output_tokens=token_count(
                ("max_completion_tokens", read.max_completion_tokens),
                ("max_tokens", read.max_tokens),
                request=REQUEST,
            ),
            cache_salt=read.cache_salt or "",
        )


def _message_text(message: _Message) -> str:
    text = f"{MESSAGE}{message.role}{ROLE}{content_text(message.content)}"
    if message.tool_calls is not msgspec.UNSET:
        text += raw_bytes(message.tool_calls).decode()
    return text
