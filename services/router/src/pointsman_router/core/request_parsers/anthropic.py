"""Anthropic's `POST /v1/messages` and `/v1/messages/count_tokens`."""

import msgspec

from pointsman_router.core.request_parsers.json_body import (
    OptionalRaw,
    Tokens,
    decode_body,
    invalid,
    model_of,
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

REQUEST = "messages"


class _Message(msgspec.Struct, frozen=True, gc=False):
    role: str = ""
    content: Content = None


class _Body(msgspec.Struct, frozen=True):
    model: str | None = None
    system: Content = None
    messages: list[_Message] | None = None
    tools: OptionalRaw = msgspec.UNSET
    stream: bool | None = None
    max_tokens: Tokens = None
    cache_salt: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


class AnthropicMessagesParser:
    path_suffixes: tuple[str, ...] = ("messages",)
    api = "anthropic-messages"
    reports_usage = True

    def parse(self, body: bytes) -> ParsedRequest:
        read = decode_body(_DECODER, body, request=REQUEST)
        if not read.messages:
            raise invalid(REQUEST, "must have valid messages field", param="messages")
        pieces = [content_text(read.system), *map(_message_text, read.messages)]
        return ParsedRequest(
            api=self.api,
            model=model_of(read.model),
            prompts=(conversation(read.tools, pieces),),
            stream=bool(read.stream),
            max_output_tokens=token_count(("max_tokens", read.max_tokens), request=REQUEST),
            cache_salt=read.cache_salt or "",
            reports_usage=self.reports_usage,
        )


class AnthropicCountTokensParser(AnthropicMessagesParser):
    """The same body, of which the server only counts the tokens."""

    path_suffixes = ("messages/count_tokens",)
    api = "anthropic-count-tokens"
    reports_usage = False


def _message_text(message: _Message) -> str:
    return f"{MESSAGE}{message.role}{ROLE}{content_text(message.content)}"
