"""`system-prompt`: puts a text before or behind the client's system prompt, or in its place."""

from typing import Annotated, Any

import msgspec

from pointsman_common.plugin_catalogue import PluginType
from pointsman_router.core.rules.prompt_edit import Mode, with_system_text
from pointsman_router.core.rules.request_fields import FIELDS, field_values
from pointsman_router.core.rules.rule import Changes, Rule, RuleRequest
from pointsman_router.core.rules.template import Template


class SystemPromptParameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=100_000)]
    """A template: `{{ model }}`, `{{ tenant }}`, `{{ header.x-plan }}` …"""
    mode: Mode = "prepend"


class SystemPrompt:
    """For chat, completions (the text goes first), responses and Anthropic's messages."""

    def __init__(self, parameters: SystemPromptParameters) -> None:
        self._mode: Mode = parameters.mode
        self._template = Template.parse(parameters.text, known=FIELDS, key="text")

    def apply(self, request: RuleRequest) -> Changes:
        """Raises RuleFailedError where the API has no text that goes first."""
        text = self._template.render(field_values(request, self._template.fields))
        splices = with_system_text(request.parsed.api, request.body, text, self._mode)
        return Changes(splices=splices)


def _build(_: str, parameters: Any) -> Rule:
    return SystemPrompt(parameters)


SYSTEM_PROMPT = PluginType(SystemPromptParameters, _build)
