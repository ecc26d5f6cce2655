"""From a plugin's YAML type and parameters to the plugin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from pointsman_common.errors import SettingsError

P = TypeVar("P")


class NoParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a plugin that takes none."""


@dataclass(frozen=True)
class PluginType(Generic[P]):
    """`build(name, parameters)` makes the plugin from its checked parameters."""

    parameters: type[msgspec.Struct]
    build: Callable[[str, Any], P]


def build_plugin(
    catalogue: Mapping[str, PluginType[P]], type_name: str, name: str, parameters: object
) -> P:
    """Build one plugin.

    Raises:
        SettingsError: no such type, or parameters that it refuses.
    """
    entry = catalogue.get(type_name)
    if entry is None:
        known = ", ".join(sorted(catalogue))
        raise SettingsError(f"plugins[{name}].type", f"no plugin {type_name!r}; there are: {known}")
    try:
        checked = msgspec.convert(parameters or {}, entry.parameters)
    except msgspec.ValidationError as error:
        raise SettingsError(f"plugins[{name}].parameters", str(error)) from error
    return entry.build(name, checked)
