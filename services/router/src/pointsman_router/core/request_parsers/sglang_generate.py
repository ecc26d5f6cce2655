"""SGLang's own `POST /generate` with token ids. It names no model: an engine serves one."""

import msgspec

from pointsman_router.core.request_parsers.json_body import (
    Tokens,
    decode_body,
    invalid,
    token_count,
)
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.prompt_text import TokenId, token_bytes

REQUEST = "generate"


class _SamplingParams(msgspec.Struct, frozen=True):
    max_new_tokens: Tokens = None
    n: Tokens = None


class _Body(msgspec.Struct, frozen=True):
    input_ids: list[TokenId] | None = None
    sampling_params: _SamplingParams | None = None
    stream: bool | None = None
    extra_key: str | None = None
    """What vLLM calls the cache salt."""
    lora_path: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


class SglangGenerateParser:
    path_suffixes = ("generate",)

    def parse(self, body: bytes) -> ParsedRequest:
        read = decode_body(_DECODER, body, request=REQUEST)
        if not read.input_ids:
            raise invalid(REQUEST, "input_ids must be provided", param="input_ids")
        sampling = read.sampling_params or _SamplingParams()
        return ParsedRequest(
            api="sglang-generate",
            names_model=False,
            prompts=(token_bytes(read.input_ids),),
            stream=bool(read.stream),
            max_output_tokens=token_count(
                ("sampling_params.max_new_tokens", sampling.max_new_tokens), request=REQUEST
            ),
            choices=token_count(("sampling_params.n", sampling.n), request=REQUEST),
            lora=read.lora_path or "",
            token_ids=True,
            cache_salt=read.extra_key or "",
            reports_usage=False,
        )
