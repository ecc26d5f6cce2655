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


class _Message(msgspec.Struct, frozen=True, gc=False):
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
    n: Tokens = None
    cache_salt: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


class OpenAiChatParser:
    path_suffixes = ("chat/completions", "chat/completions/render")

    def parse(self, body: bytes) -> ParsedRequest:
        read = decode_body(_DECODER, body, request=REQUEST)
        if not read.messages:
            raise invalid(REQUEST, "must have valid messages field", param="messages")
        # Written out for the message that is only a text: there may be hundreds.
        pieces = [
            f"{MESSAGE}{each.role}{ROLE}{each.content}"
            if each.tool_calls is msgspec.UNSET and isinstance(each.content, str)
            else _text(each)
            for each in read.messages
        ]
        return ParsedRequest(
            api="openai-chat",
            model=model_of(read.model),
            prompts=(conversation(read.tools, pieces),),
            stream=bool(read.stream),
            max_output_tokens=token_count(
                ("max_completion_tokens", read.max_completion_tokens),
                ("max_tokens", read.max_tokens),
                request=REQUEST,
            ),
            choices=token_count(("n", read.n), request=REQUEST),
            cache_salt=read.cache_salt or "",
        )


def _text(message: _Message) -> str:
    text = f"{MESSAGE}{message.role}{ROLE}{content_text(message.content)}"
    return text + raw_bytes(message.tool_calls).decode()
