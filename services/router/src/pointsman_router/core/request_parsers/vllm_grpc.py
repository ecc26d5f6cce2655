"""vLLM's own gRPC: `VllmEngine/Generate` and `/Embed`. It names no model: an engine serves one."""

from pointsman_common.errors import BadRequestError
from pointsman_router.core.request_parsers.grpc_messages import read_message
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.prompt_text import token_bytes


class VllmGrpcGenerateParser:
    path_suffixes = ("vllm.grpc.engine.VllmEngine/Generate",)

    def parse(self, body: bytes) -> ParsedRequest:
        read = read_message("GenerateRequest", body)
        ids = read.tokenized.input_ids
        if not ids and not read.text:
            raise BadRequestError("the request has neither token ids nor a text")
        return ParsedRequest(
            api="vllm-grpc-generate",
            names_model=False,
            prompts=(token_bytes(ids) if ids else read.text.encode(),),
            token_ids=bool(ids),
            stream=read.stream,
            max_output_tokens=read.sampling_params.max_tokens,
            choices=read.sampling_params.n,
            reports_usage=False,
        )


class VllmGrpcEmbedParser:
    path_suffixes = ("vllm.grpc.engine.VllmEngine/Embed",)

    def parse(self, body: bytes) -> ParsedRequest:
        ids = read_message("EmbedRequest", body).tokenized.input_ids
        if not ids:
            raise BadRequestError("missing tokenized input in EmbedRequest")
        return ParsedRequest(
            api="vllm-grpc-embed",
            names_model=False,
            prompts=(token_bytes(ids),),
            token_ids=True,
            reports_usage=False,
        )
