"""Plugins that other packages bring, by the entry points that they declare.

A package declares, in its pyproject.toml:

    [project.entry-points."pointsman.scheduler.plugins"]
    my-scorer = "my_package:MY_SCORER"

and `MY_SCORER` is a PluginType: a parameter struct, and what builds the plugin from it.
"""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import PluginType
from pointsman_scheduler.core.config import Catalogue

GROUP = "pointsman.scheduler.plugins"


def with_installed(catalogue: Catalogue, found: Iterable[EntryPoint] | None = None) -> Catalogue:
    """The catalogue and what is installed beside it.

    Raises:
        SettingsError: a type that exists already, that cannot be loaded, or that is no PluginType.
    """
    types = dict(catalogue)
    for entry in entry_points(group=GROUP) if found is None else found:
        if entry.name in types:
            raise SettingsError(f"plugin {entry.name}", f"{entry.value} names a type that exists")
        try:
            loaded: Any = entry.load()
        except (ImportError, AttributeError) as error:
            raise SettingsError(f"plugin {entry.name}", f"cannot be loaded: {error}") from error
        if not isinstance(loaded, PluginType):
            raise SettingsError(f"plugin {entry.name}", f"{entry.value} is no PluginType")
        types[entry.name] = loaded
    return types
