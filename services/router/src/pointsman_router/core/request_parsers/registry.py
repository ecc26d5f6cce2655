"""Which parser reads a request: the one with the longest path suffix.

Which parsers there are is said by an EndpointPickerConfig, in upstream's type names. As upstream
has it, a suffix is a plain end of the path without regard to segments, the first of two parsers
with the same suffix counts, and a parser without suffixes takes what is left and ends the list.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from pointsman_common.endpoint_picker_config import EndpointPickerConfig, PluginSpec
from pointsman_common.errors import BadRequestError
from pointsman_common.plugin_catalogue import NoParameters, PluginType, build_plugin
from pointsman_router.core.request_headers import RequestHeaders
from pointsman_router.core.request_parsers.anthropic import (
    AnthropicCountTokensParser,
    AnthropicMessagesParser,
)
from pointsman_router.core.request_parsers.openai_audio import OpenAiAudioParser
from pointsman_router.core.request_parsers.openai_chat import OpenAiChatParser
from pointsman_router.core.request_parsers.openai_completions import OpenAiCompletionsParser
from pointsman_router.core.request_parsers.openai_embeddings import OpenAiEmbeddingsParser
from pointsman_router.core.request_parsers.openai_images import OpenAiImagesParser
from pointsman_router.core.request_parsers.openai_responses import (
    OpenAiConversationsParser,
    OpenAiResponsesParser,
)
from pointsman_router.core.request_parsers.parsed_request import (
    FormParser,
    ParsedRequest,
    RequestParser,
)
from pointsman_router.core.request_parsers.passthrough import PassthroughParser
from pointsman_router.core.request_parsers.rerank import RerankParser
from pointsman_router.core.request_parsers.sglang_generate import SglangGenerateParser
from pointsman_router.core.request_parsers.vertex_ai import VERTEX_CHAT, VERTEX_PREDICT
from pointsman_router.core.request_parsers.vllm_generate import VllmGenerateParser
from pointsman_router.core.request_parsers.vllm_grpc import (
    VllmGrpcEmbedParser,
    VllmGrpcGenerateParser,
)

AnyParser = RequestParser | FormParser
Parsers = tuple[AnyParser, ...]


def _of(*parsers: AnyParser) -> PluginType[Parsers]:
    return PluginType(NoParameters, lambda _name, _parameters: parsers)


PARSER_TYPES: Mapping[str, PluginType[Parsers]] = {
    "openai-parser": _of(
        OpenAiChatParser(),
        OpenAiCompletionsParser(),
        OpenAiEmbeddingsParser(),
        OpenAiResponsesParser(),
        OpenAiConversationsParser(),
        OpenAiImagesParser(),
        OpenAiAudioParser(),
        RerankParser(),
    ),
    "anthropic-parser": _of(AnthropicMessagesParser(), AnthropicCountTokensParser()),
    "vllmhttp-parser": _of(VllmGenerateParser()),
    "sglanghttp-parser": _of(SglangGenerateParser()),
    "vllmgrpc-parser": _of(VllmGrpcGenerateParser(), VllmGrpcEmbedParser()),
    "vertexai-parser": _of(VERTEX_CHAT, VERTEX_PREDICT),
    "passthrough-parser": _of(PassthroughParser()),
}
DEFAULT_TYPES = ("openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser")
MAX_SHOWN_PATH = 200


class ParserRegistry:
    def __init__(self, parsers: Sequence[AnyParser]) -> None:
        by_suffix: dict[str, AnyParser] = {}
        self._fallback: AnyParser | None = None
        for parser in parsers:
            if not parser.path_suffixes:
                self._fallback = parser
                break
            for suffix in parser.path_suffixes:
                by_suffix.setdefault(suffix, parser)
        self._forms = {type(parser) for parser in parsers if isinstance(parser, FormParser)}
        self._by_suffix = sorted(by_suffix.items(), key=lambda entry: -len(entry[0]))

    @classmethod
    def from_config(cls, config: EndpointPickerConfig | None) -> "ParserRegistry":
        """The parsers that a document asks for, or the default ones.

        Raises:
            SettingsError: a parser that is not known, or parameters that it refuses.
        """
        specs = _parser_specs(config) if config else ()
        if not specs:
            specs = tuple(PluginSpec(type=name, name=name) for name in DEFAULT_TYPES)
        built = [
            build_plugin(PARSER_TYPES, spec.type, spec.name, spec.parameters) for spec in specs
        ]
        return cls([parser for parsers in built for parser in parsers])

    def parse(self, headers: RequestHeaders, body: bytes) -> ParsedRequest:
        """What the body of a request says.

        Raises:
            BadRequestError: no parser reads its path, or it cannot be served.
        """
        parser = self.parser_of(headers.path())
        if parser.path_suffixes:
            encoding = headers.get("content-encoding")
            if encoding and encoding.lower() != "identity":
                shown = encoding[:MAX_SHOWN_PATH]
                raise BadRequestError(f"the body must not be encoded, and is: {shown}")
        # By type: an instance check of an abstract class costs as much as the rest here.
        if type(parser) in self._forms:
            form = cast(FormParser, parser)
            return form.parse_form(body, headers.get("content-type") or "")
        return cast(RequestParser, parser).parse(body)

    def parser_of(self, path: str) -> AnyParser:
        """The parser of a path without its query.

        Raises:
            BadRequestError: no parser reads it.
        """
        for suffix, parser in self._by_suffix:
            if path.endswith(suffix):
                return parser
        if self._fallback is None:
            shown = path[:MAX_SHOWN_PATH]
            raise BadRequestError(f"no parser registered matching path suffix for: {shown}")
        return self._fallback


def _parser_specs(config: EndpointPickerConfig) -> tuple[PluginSpec, ...]:
    """`requestHandler.parsers`, else the older `parser`; empty: none is named."""
    refs = config.request_handler.parsers if config.request_handler else ()
    if not refs and config.parser:
        refs = (config.parser,)
    found = (config.plugin(ref.plugin_ref) for ref in refs)
    return tuple(plugin for plugin in found if plugin)
