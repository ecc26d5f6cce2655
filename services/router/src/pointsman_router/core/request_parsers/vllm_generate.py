"""vLLM's `POST /inference/v1/generate`: token ids in, token ids out."""

import msgspec

from pointsman_router.core.request_parsers.json_body import (
    Tokens,
    decode_body,
    invalid,
    model_of,
    token_count,
)
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.prompt_text import TokenId, token_bytes

REQUEST = "generate"


class _SamplingParams(msgspec.Struct, frozen=True):
    max_tokens: Tokens = None
    n: Tokens = None


class _Body(msgspec.Struct, frozen=True):
    model: str | None = None
    token_ids: list[TokenId] | None = None
    sampling_params: _SamplingParams | None = None
    stream: bool | None = None
    cache_salt: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


class VllmGenerateParser:
    path_suffixes = ("inference/v1/generate",)

    def parse(self, body: bytes) -> ParsedRequest:
        read = decode_body(_DECODER, body, request=REQUEST)
        if not read.token_ids:
            raise invalid(REQUEST, "must have token_ids field", param="token_ids")
        sampling = read.sampling_params or _SamplingParams()
        return ParsedRequest(
            api="vllm-generate",
            model=model_of(read.model),
            prompts=(token_bytes(read.token_ids),),
            stream=bool(read.stream),
            max_output_tokens=token_count(
                ("sampling_params.max_tokens", sampling.max_tokens), request=REQUEST
            ),
            choices=token_count(("sampling_params.n", sampling.n), request=REQUEST),
            token_ids=True,
            cache_salt=read.cache_salt or "",
        )
