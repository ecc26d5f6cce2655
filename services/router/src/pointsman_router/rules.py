"""What a rule written in Python needs: import from here, and from nowhere else in the router.

`docs/rules.md` shows how, in ten minutes.
"""

from collections.abc import Mapping

import msgspec

from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import NoParameters, PluginType
from pointsman_router.core.json_splice import Splice, set_members
from pointsman_router.core.rules.callout import (
    CalloutReply,
    HttpCallout,
    RpcCallout,
    RuleFailedError,
)
from pointsman_router.core.rules.rule import (
    Changes,
    Refusal,
    Rule,
    RuleOutcome,
    RuleRequest,
    RuleSteps,
)

RuleType = PluginType[Rule]
"""`RuleType(Parameters, build)`: how a type of rule is made from its checked parameters."""


def set_json(body: bytes, values: Mapping[str, object]) -> tuple[Splice, ...]:
    """Splices that give top-level keys of a JSON body other values; all other bytes stay.

    A key that is not there is added.
    """
    return set_members(body, {key: msgspec.json.encode(value) for key, value in values.items()})


__all__ = [
    "CalloutReply",
    "Changes",
    "HttpCallout",
    "NoParameters",
    "Refusal",
    "RpcCallout",
    "Rule",
    "RuleFailedError",
    "RuleOutcome",
    "RuleRequest",
    "RuleSteps",
    "RuleType",
    "SettingsError",
    "Splice",
    "set_json",
]
