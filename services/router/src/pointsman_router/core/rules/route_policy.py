"""RoutePolicy: the rules that a team has written, checked and made ready.

A policy is refused as a whole, with the key at fault and the reason.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from pointsman_common.errors import SettingsError
from pointsman_common.kubernetes_units import parse_duration_s
from pointsman_common.plugin_catalogue import PluginType, build_plugin
from pointsman_router.core.rules.rule import Rule
from pointsman_router.core.rules.rule_chain import ConfiguredRule
from pointsman_router.core.rules.rule_match import MatchSpec, RuleMatch

MAX_RULES = 100
LONGEST_TIMEOUT_S = 30.0

Catalogue = Mapping[str, PluginType[Rule]]


class RuleSpec(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """One rule of a policy."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?$")]
    """A metric label, unique in its policy."""
    type: str
    match: MatchSpec = MatchSpec()
    on_failure: Literal["fail", "skip"] = "fail"
    """When the rule cannot do its work: refuse the request, or let it go on without."""
    timeout: str = "300ms"
    """Longest time that the rule may take to ask others, for one request."""
    max_concurrency: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 64
    """Most callouts at a time; one more is a failure at once."""
    parameters: dict[str, Any] = {}


class RoutePolicySpec(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """The `spec` of a RoutePolicy, and all of a rules file."""

    rules: Annotated[list[RuleSpec], msgspec.Meta(max_length=MAX_RULES)]
    """Applied in this order."""
    pool_ref: Any = None
    """Of the manifest; the datalayer has read it."""


def parse_policy(name: str, spec: object, catalogue: Catalogue) -> list[ConfiguredRule]:
    """Make the rules of the policy `name` from its plain data.

    Raises:
        SettingsError: something in it cannot be; the key is the path within the spec.
    """
    try:
        checked = msgspec.convert(spec, RoutePolicySpec)
    except msgspec.ValidationError as error:
        why, _, where = str(error).partition(" - at `$")
        raise SettingsError(where.rstrip("`").lstrip(".") or "spec", why) from error
    _check_names(checked.rules)
    return [
        _configured(name, rule, f"rules[{number}]", catalogue)
        for number, rule in enumerate(checked.rules)
    ]


def _check_names(rules: Sequence[RuleSpec]) -> None:
    seen: set[str] = set()
    for number, rule in enumerate(rules):
        if rule.name in seen:
            raise SettingsError(f"rules[{number}].name", f"{rule.name!r} stands twice")
        seen.add(rule.name)


def _configured(policy: str, spec: RuleSpec, key: str, catalogue: Catalogue) -> ConfiguredRule:
    name = f"{policy}/{spec.name}"
    try:
        timeout_s = parse_duration_s(spec.timeout)
    except SettingsError as error:
        raise SettingsError(f"{key}.timeout", error.why) from error
    if not 0 < timeout_s <= LONGEST_TIMEOUT_S:
        raise SettingsError(f"{key}.timeout", f"must be over 0 and at most {LONGEST_TIMEOUT_S:g}s")
    try:
        rule = build_plugin(catalogue, spec.type, spec.name, spec.parameters)
    except SettingsError as error:
        inner = error.key.replace(f"plugins[{spec.name}]", key, 1)
        if not inner.startswith(key):
            inner = f"{key}.parameters.{inner}"
        raise SettingsError(inner, error.why) from error
    return ConfiguredRule(
        name=name,
        match=RuleMatch(spec.match),
        rule=rule,
        skips=spec.on_failure == "skip",
        timeout_s=timeout_s,
        concurrency=spec.max_concurrency,
    )
