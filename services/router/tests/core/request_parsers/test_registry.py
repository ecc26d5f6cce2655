import pytest

from pointsman_common.endpoint_picker_config import parse_endpoint_picker_config
from pointsman_common.errors import BadRequestError, SettingsError
from pointsman_router.core.request_parsers.registry import ParserRegistry

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def registry(text: str = "") -> ParserRegistry:
    return ParserRegistry.from_config(parse_endpoint_picker_config(HEAD + text) if text else None)


@pytest.mark.parametrize(
    ("path", "parser"),
    [
        ("/v1/chat/completions", "OpenAiChatParser"),
        ("/v1/completions", "OpenAiCompletionsParser"),
        ("/v1/completions/render", "OpenAiCompletionsParser"),
        ("/v1/chat/completions/render", "OpenAiChatParser"),
        ("/prefix/foochat/completions", "OpenAiChatParser"),
        ("/v1/embeddings", "OpenAiEmbeddingsParser"),
        ("/v1/responses", "OpenAiResponsesParser"),
        ("/v1/images/generations", "OpenAiImagesParser"),
        ("/v1/messages", "AnthropicMessagesParser"),
        ("/v1/messages/count_tokens", "AnthropicCountTokensParser"),
        ("/inference/v1/generate", "VllmGenerateParser"),
        ("/v1/completions/", "PassthroughParser"),
        ("/foo", "PassthroughParser"),
        ("", "PassthroughParser"),
    ],
)
def test_the_longest_suffix_chooses_the_parser(path: str, parser: str) -> None:
    assert type(registry().parser_of(path)).__name__ == parser


def test_without_a_fallback_an_unknown_path_is_refused_in_upstreams_words() -> None:
    only = registry(
        "plugins: [{type: openai-parser}]\n"
        "requestHandler: {parsers: [{pluginRef: openai-parser}]}\n"
    )
    assert type(only.parser_of("/v1/completions")).__name__ == "OpenAiCompletionsParser"
    for path in ("/foo", "/v1/messages"):
        with pytest.raises(BadRequestError) as refused:
            only.parser_of(path)
        assert str(refused.value) == f"no parser registered matching path suffix for: {path}"


def test_the_older_form_and_a_name_of_its_own_are_understood() -> None:
    text = "plugins: [{name: p, type: passthrough-parser}]\nparser: {pluginRef: p}\n"
    assert type(registry(text).parser_of("/v1/completions")).__name__ == "PassthroughParser"


def test_a_fallback_ends_the_list() -> None:
    text = (
        "plugins: [{type: passthrough-parser}, {type: openai-parser}]\n"
        "requestHandler:\n"
        "  parsers: [{pluginRef: passthrough-parser}, {pluginRef: openai-parser}]\n"
    )
    assert type(registry(text).parser_of("/v1/completions")).__name__ == "PassthroughParser"


def test_a_document_without_parsers_has_the_default_ones() -> None:
    text = "plugins: [{type: queue-scorer}]\n"
    assert type(registry(text).parser_of("/v1/chat/completions")).__name__ == "OpenAiChatParser"


@pytest.mark.parametrize(
    ("plugin", "why"),
    [
        ("{type: nosuch-parser}", "no plugin 'nosuch-parser'; there are: anthropic-parser"),
        ("{type: openai-parser, parameters: {x: 1}}", "unknown field `x`"),
    ],
)
def test_a_parser_that_there_is_not_is_refused_with_the_reason(plugin: str, why: str) -> None:
    name = plugin.split()[1].rstrip(",}")
    text = f"plugins: [{plugin}]\nrequestHandler: {{parsers: [{{pluginRef: {name}}}]}}\n"
    with pytest.raises(SettingsError) as refused:
        registry(text)
    assert why in str(refused.value)
