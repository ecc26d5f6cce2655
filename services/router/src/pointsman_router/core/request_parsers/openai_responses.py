"""OpenAI's `POST /v1/responses`."""

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

REQUEST = "responses"


class _Item(msgspec.Struct, frozen=True, gc=False):
    """A message, or another item: the call of a function and what it gave."""

    type: str = "message"
    role: str = ""
    content: Content = None
    name: str | None = None
    arguments: str | None = None
    output: OptionalRaw = msgspec.UNSET


class _Body(msgspec.Struct, frozen=True):
    model: str | None = None
    instructions: str | None = None
    input: str | list[_Item] | None = None
    tools: OptionalRaw = msgspec.UNSET
    stream: bool | None = None
    max_output_tokens: Tokens = None
    cache_salt: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


class OpenAiResponsesParser:
    path_suffixes = ("responses",)

    def parse(self, body: bytes) -> ParsedRequest:
        read = decode_body(_DECODER, body, request=REQUEST)
        if not read.input:
            raise invalid(REQUEST, "must have input field", param="input")
        # A text is one message of the user, so that it is also how a longer conversation begins.
        items = (
            [_Item(role="user", content=read.input)] if isinstance(read.input, str) else read.input
        )
        pieces = [read.instructions or "", *map(_item_text, items)]
        return ParsedRequest(
            api="openai-responses",
            model=model_of(read.model),
            prompts=(conversation(read.tools, pieces),),
            stream=bool(read.stream),
            max_output_tokens=token_count(
                ("max_output_tokens", read.max_output_tokens), request=REQUEST
            ),
            cache_salt=read.cache_salt or "",
        )


class _Conversation(msgspec.Struct, frozen=True):
    model: str | None = None
    items: list[_Item] | None = None


_CONVERSATION = msgspec.json.Decoder(_Conversation)


class OpenAiConversationsParser:
    """`POST /v1/conversations`: items that later requests go on from. A model is optional."""

    path_suffixes = ("conversations",)

    def parse(self, body: bytes) -> ParsedRequest:
        read = decode_body(_CONVERSATION, body, request="conversations")
        if not read.items:
            raise invalid("conversations", "must have items field", param="items")
        return ParsedRequest(
            api="openai-conversations",
            model=model_of(read.model) if read.model else "",
            names_model=bool(read.model),
            prompts=(conversation(msgspec.UNSET, map(_item_text, read.items)),),
            reports_usage=False,
        )


def _item_text(item: _Item) -> str:
    text = f"{MESSAGE}{item.role or item.type}{ROLE}{content_text(item.content)}"
    if item.arguments is not None:
        text += f"{item.name or ''}{item.arguments}"
    if item.output is not msgspec.UNSET:
        text += raw_bytes(item.output).decode()
    return text
