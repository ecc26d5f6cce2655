"""Vertex AI's gRPC: an OpenAI body within an HttpBody. As upstream has it, its model is read and
never rewritten."""

from msgspec import structs

from pointsman_common.errors import BadRequestError
from pointsman_router.core.request_parsers.grpc_messages import read_message
from pointsman_router.core.request_parsers.openai_chat import OpenAiChatParser
from pointsman_router.core.request_parsers.openai_responses import OpenAiResponsesParser
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest, RequestParser


class VertexAiParser:
    """`within` reads the body that the call carries."""

    def __init__(self, path_suffixes: tuple[str, ...], api: str, within: RequestParser) -> None:
        self.path_suffixes, self._api, self._within = path_suffixes, api, within

    def parse(self, body: bytes) -> ParsedRequest:
        read = read_message("PredictRequest", body)
        if not read.HasField("http_body"):
            raise BadRequestError("the request has no HttpBody")
        parsed = self._within.parse(read.http_body.data)
        return structs.replace(parsed, api=self._api, names_model=False, reports_usage=False)


VERTEX_CHAT = VertexAiParser(
    ("PredictionService/ChatCompletions",), "vertexai-chat", OpenAiChatParser()
)
VERTEX_PREDICT = VertexAiParser(
    ("PredictionService/StreamRawPredict", "PredictionService/RawPredict"),
    "vertexai-predict",
    OpenAiResponsesParser(),
)
