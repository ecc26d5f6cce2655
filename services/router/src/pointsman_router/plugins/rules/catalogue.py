"""Every type of rule by its name in a RoutePolicy."""

from pointsman_common.plugin_catalogue import PluginType
from pointsman_router.core.rules.callout_access import CalloutAccess
from pointsman_router.core.rules.rule import Rule
from pointsman_router.plugins.rules.external import external
from pointsman_router.plugins.rules.header_edit import HEADER_EDIT
from pointsman_router.plugins.rules.model_alias import MODEL_ALIAS
from pointsman_router.plugins.rules.moderation_callout import moderation_callout
from pointsman_router.plugins.rules.rag_callout import rag_callout
from pointsman_router.plugins.rules.rate_limit_key import RATE_LIMIT_KEY
from pointsman_router.plugins.rules.sticky_target import STICKY_TARGET
from pointsman_router.plugins.rules.system_prompt import SYSTEM_PROMPT
from pointsman_router.plugins.rules.validate import VALIDATE


def rule_types(access: CalloutAccess) -> dict[str, PluginType[Rule]]:
    """The types that come with the router."""
    return {
        "external": external(access),
        "header-edit": HEADER_EDIT,
        "model-alias": MODEL_ALIAS,
        "moderation-callout": moderation_callout(access),
        "rag-callout": rag_callout(access),
        "rate-limit-key": RATE_LIMIT_KEY,
        "sticky-target": STICKY_TARGET,
        "system-prompt": SYSTEM_PROMPT,
        "validate": VALIDATE,
    }
