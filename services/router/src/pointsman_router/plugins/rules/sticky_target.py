"""`sticky-target`: a user keeps the target model that a weighted rewrite gave.

The target follows from a hash of the key, so all replicas agree and none remembers. Weights then
hold over many users, and no longer exactly over any hundred requests. When they change, only as
many users move as the weights do.
"""

from typing import Any, Literal

import msgspec

from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import PluginType
from pointsman_router.core.rules.rule import Changes, Rule, RuleRequest


class StickyTargetParameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    by: Literal["fairness-id", "header"] = "fairness-id"
    header: str = ""
    """Whose value is the key, such as `x-session-id`; a request without it is not sticky."""


class StickyTarget:
    def __init__(self, parameters: StickyTargetParameters) -> None:
        if (parameters.by == "header") != bool(parameters.header):
            raise SettingsError("header", "goes with `by: header`, and only with it")
        self._header = parameters.header.lower()

    def apply(self, request: RuleRequest) -> Changes | None:
        key = request.headers.get(self._header) if self._header else request.fairness_id
        return Changes(sticky_key=key) if key else None


def _build(_: str, parameters: Any) -> Rule:
    return StickyTarget(parameters)


STICKY_TARGET = PluginType(StickyTargetParameters, _build)
