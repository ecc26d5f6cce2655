"""`header-edit`: sets and removes headers of the request that reaches the model server.

Later rules, the objective and the fairness id see the edited headers.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import PluginType
from pointsman_router.core.rules.request_fields import FIELDS, field_values
from pointsman_router.core.rules.rule import Changes, Rule, RuleRequest
from pointsman_router.core.rules.rule_chain import may_edit
from pointsman_router.core.rules.template import Template


class HeaderEditParameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    set: Mapping[str, str] = {}
    """Name to template; overwrites."""
    remove: tuple[str, ...] = ()


class HeaderEdit:
    def __init__(self, parameters: HeaderEditParameters) -> None:
        for name in (*parameters.set, *parameters.remove):
            if not may_edit(name):
                raise SettingsError(f"set.{name}", "this header is not a rule's to change")
        self._remove = parameters.remove
        self._set = {
            name: Template.parse(text, known=FIELDS, key=f"set.{name}")
            for name, text in parameters.set.items()
        }

    def apply(self, request: RuleRequest) -> Changes:
        values = {
            name: template.render(field_values(request, template.fields))
            for name, template in self._set.items()
        }
        return Changes(set_headers=values, remove_headers=self._remove)


def _build(_: str, parameters: Any) -> Rule:
    return HeaderEdit(parameters)


HEADER_EDIT = PluginType(HeaderEditParameters, _build)
