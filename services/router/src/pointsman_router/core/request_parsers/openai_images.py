"""OpenAI's `POST /v1/images/generations`: a prompt, and no tokens that are streamed or counted."""

import msgspec

from pointsman_router.core.request_parsers.json_body import decode_body, invalid, model_of
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest

REQUEST = "images generations"


class _Body(msgspec.Struct, frozen=True):
    model: str | None = None
    prompt: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


class OpenAiImagesParser:
    path_suffixes = ("images/generations",)

    def parse(self, body: bytes) -> ParsedRequest:
        read = decode_body(_DECODER, body, request=REQUEST)
        if not read.prompt:
            raise invalid(REQUEST, "must have prompt field", param="prompt")
        return ParsedRequest(
            api="openai-images", model=model_of(read.model), prompts=(read.prompt.encode(),)
        )
