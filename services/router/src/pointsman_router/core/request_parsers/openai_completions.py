"""OpenAI's `POST /v1/completions`, with vLLM's additions."""

import msgspec

from pointsman_router.core.request_parsers.json_body import (
    OptionalRaw,
    Tokens,
    decode_body,
    model_of,
    token_count,
)
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.prompt_text import input_prompts, is_token_ids

REQUEST = "completions"


class _Body(msgspec.Struct, frozen=True):
    model: str | None = None
    prompt: OptionalRaw = msgspec.UNSET
    stream: bool | None = None
    max_tokens: Tokens = None
    n: Tokens = None
    cache_salt: str | None = None
    add_special_tokens: bool | None = None


_DECODER = msgspec.json.Decoder(_Body)


class OpenAiCompletionsParser:
    path_suffixes = ("completions", "completions/render")

    def parse(self, body: bytes) -> ParsedRequest:
        read = decode_body(_DECODER, body, request=REQUEST)
        prompts = input_prompts(read.prompt, request=REQUEST, param="prompt")
        token_ids = is_token_ids(read.prompt)
        return ParsedRequest(
            api="openai-completions",
            model=model_of(read.model),
            prompts=prompts,
            stream=bool(read.stream),
            max_output_tokens=token_count(("max_tokens", read.max_tokens), request=REQUEST),
            choices=token_count(("n", read.n), request=REQUEST),
            token_ids=token_ids,
            engine_tokenizes=not token_ids,
            special_tokens=read.add_special_tokens is not False,
            cache_salt=read.cache_salt or "",
        )
