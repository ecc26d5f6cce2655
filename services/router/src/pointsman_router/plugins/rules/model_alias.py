"""`model-alias`: other names for models. The client gets the name that it asked for back."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from pointsman_common.plugin_catalogue import PluginType
from pointsman_router.core.request_parsers.json_body import MAX_MODEL_CHARACTERS
from pointsman_router.core.rules.rule import Changes, Rule, RuleRequest

_Model = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_MODEL_CHARACTERS)]


class ModelAliasParameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    aliases: Annotated[Mapping[str, _Model], msgspec.Meta(min_length=1, max_length=10_000)]
    """The name that a client asks for, exact, to the one that is meant."""


class ModelAlias:
    """Goes before InferenceModelRewrites, which then see the model that is meant."""

    def __init__(self, parameters: ModelAliasParameters) -> None:
        self._aliases = parameters.aliases

    def apply(self, request: RuleRequest) -> Changes | None:
        meant = self._aliases.get(request.model)
        return Changes(model=meant) if meant and request.parsed.names_model else None


def _build(_: str, parameters: Any) -> Rule:
    return ModelAlias(parameters)


MODEL_ALIAS = PluginType(ModelAliasParameters, _build)
