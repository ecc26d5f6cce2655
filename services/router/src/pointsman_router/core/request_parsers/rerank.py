"""`POST /rerank`, `/v1/rerank` and `/v2/rerank`, as Cohere, Jina and vLLM have it.

Each document is read together with the query, so each is a prompt of its own.
"""

import msgspec

from pointsman_router.core.request_parsers.json_body import decode_body, invalid, model_of
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.prompt_text import MESSAGE, RerankDocument

REQUEST = "rerank"


class _Body(msgspec.Struct, frozen=True):
    model: str | None = None
    query: str | None = None
    documents: list[str | RerankDocument] | None = None
    cache_salt: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


class RerankParser:
    path_suffixes = ("rerank",)

    def parse(self, body: bytes) -> ParsedRequest:
        read = decode_body(_DECODER, body, request=REQUEST)
        if not read.query:
            raise invalid(REQUEST, "must have query field", param="query")
        if not read.documents:
            raise invalid(REQUEST, "must have documents field", param="documents")
        head = read.query.encode() + MESSAGE.encode()
        return ParsedRequest(
            api="rerank",
            model=model_of(read.model),
            prompts=tuple(head + _text(document).encode() for document in read.documents),
            cache_salt=read.cache_salt or "",
        )


def _text(document: str | RerankDocument) -> str:
    return document if isinstance(document, str) else document.text or ""
