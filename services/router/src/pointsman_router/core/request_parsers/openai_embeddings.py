"""OpenAI's `POST /v1/embeddings`: a prompt, and nothing generated."""

import msgspec

from pointsman_router.core.request_parsers.json_body import OptionalRaw, decode_body, model_of
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.prompt_text import input_prompts, is_token_ids

REQUEST = "embeddings"


class _Body(msgspec.Struct, frozen=True):
    model: str | None = None
    input: OptionalRaw = msgspec.UNSET
    cache_salt: str | None = None
    add_special_tokens: bool | None = None


_DECODER = msgspec.json.Decoder(_Body)


class OpenAiEmbeddingsParser:
    path_suffixes = ("embeddings",)

    def parse(self, body: bytes) -> ParsedRequest:
        read = decode_body(_DECODER, body, request=REQUEST)
        prompts = input_prompts(read.input, request=REQUEST, param="input")
        token_ids = is_token_ids(read.input)
        return ParsedRequest(
            api="openai-embeddings",
            model=model_of(read.model),
            prompts=prompts,
            token_ids=token_ids,
            engine_tokenizes=not token_ids,
            special_tokens=read.add_special_tokens is not False,
            cache_salt=read.cache_salt or "",
        )
