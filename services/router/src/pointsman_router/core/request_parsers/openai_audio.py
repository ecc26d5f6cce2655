"""`POST /v1/audio/transcriptions` and `/translations`: forms, of which little is read.

The sound is not decoded; its length in tokens is not known before it has been heard.
"""

from pointsman_common.errors import BadRequestError
from pointsman_router.core.request_parsers.json_body import model_of
from pointsman_router.core.request_parsers.multipart_form import boundary_of, field_place
from pointsman_router.core.request_parsers.parsed_request import FormParser, ParsedRequest


class OpenAiAudioParser(FormParser):
    path_suffixes = ("audio/transcriptions", "audio/translations")

    def parse_form(self, body: bytes, content_type: str) -> ParsedRequest:
        boundary = boundary_of(content_type)
        place = field_place(body, boundary, "model")
        try:
            model = body[place[0] : place[1]].decode() if place else ""
        except UnicodeDecodeError as error:
            raise BadRequestError("model must be UTF-8", param="model") from error
        stream = field_place(body, boundary, "stream")
        return ParsedRequest(
            api="openai-audio",
            model=model_of(model),
            model_at=place,
            stream=stream is not None and body[stream[0] : stream[1]] in (b"true", b"True", b"1"),
        )
