"""Sources and extractors that other packages bring, by the entry points that they declare.

A package declares, in its pyproject.toml:

    [project.entry-points."pointsman.datalayer.extractors"]
    my-extractor = "my_package:MY_EXTRACTOR"

and `MY_EXTRACTOR` is a PluginType: a parameter struct, and what builds the plugin from it. Sources
are declared the same way, under `pointsman.datalayer.sources`.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import PluginType

P = TypeVar("P")

SOURCES_GROUP = "pointsman.datalayer.sources"
EXTRACTORS_GROUP = "pointsman.datalayer.extractors"


def with_installed(
    catalogue: Mapping[str, PluginType[P]], group: str
) -> Mapping[str, PluginType[P]]:
    """The catalogue and what is installed beside it.

    Raises:
        SettingsError: a type that exists already, that cannot be loaded, or that is no PluginType.
    """
    types = dict(catalogue)
    for entry in entry_points(group=group):
        key = f"{group}[{entry.name}]"
        if entry.name in types:
            raise SettingsError(key, f"{entry.value} names a type that exists")
        try:
            loaded: object = entry.load()
        except Exception as error:
            # Whatever the import of somebody's module raises is a setting that cannot be.
            why = f"{entry.value} cannot be loaded: {type(error).__name__}: {error}"
            raise SettingsError(key, why) from error
        if not isinstance(loaded, PluginType):
            raise SettingsError(key, f"{entry.value} is no PluginType")
        types[entry.name] = loaded
    return types
