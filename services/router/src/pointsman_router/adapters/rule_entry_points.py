"""Types of rules that others have written in Python: installed packages, and those in the settings.

A package names them in the entry points `pointsman.router.rules`; the name is the rule's `type`.
"""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import PluginType
from pointsman_router.core.rules.rule import Rule

GROUP = "pointsman.router.rules"


def with_entry_points(
    catalogue: Mapping[str, PluginType[Rule]], named: Mapping[str, str]
) -> dict[str, PluginType[Rule]]:
    """A catalogue and what there is beside it; `named` is type to `module:object`.

    Raises:
        SettingsError: one cannot be loaded, is no RuleType, or takes the name of another.
    """
    found = [(f"{GROUP}[{point.name}]", point) for point in entry_points(group=GROUP)]
    found += [
        (f"rule_types.{name}", EntryPoint(name, value, GROUP)) for name, value in named.items()
    ]
    types = dict(catalogue)
    for key, point in found:
        if point.name in types:
            raise SettingsError(key, f"there is a rule type {point.name!r} already")
        types[point.name] = _loaded(key, point)
    return types


def _loaded(key: str, point: EntryPoint) -> PluginType[Rule]:
    try:
        kind: object = point.load()
    except Exception as error:
        # Whatever the import of somebody's module raises is a setting that cannot be.
        why = f"{point.value} cannot be loaded: {type(error).__name__}: {error}"
        raise SettingsError(key, why) from error
    if not isinstance(kind, PluginType):
        raise SettingsError(key, f"{point.value} is no RuleType")
    return kind
