from collections.abc import Mapping

import msgspec
import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import NoParameters, PluginType, build_plugin


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    threshold: int = 128


CATALOGUE: Mapping[str, PluginType[tuple[str, int]]] = {
    "load-scorer": PluginType(Threshold, lambda name, given: (name, given.threshold)),
    "plain-scorer": PluginType(NoParameters, lambda name, _: (name, 0)),
}


def test_a_plugin_is_built_from_its_name_and_parameters_or_their_defaults() -> None:
    assert build_plugin(CATALOGUE, "load-scorer", "mine", {"threshold": 3}) == ("mine", 3)
    assert build_plugin(CATALOGUE, "load-scorer", "mine", None) == ("mine", 128)
    assert build_plugin(CATALOGUE, "plain-scorer", "mine", {}) == ("mine", 0)


@pytest.mark.parametrize(
    ("type_name", "parameters", "key", "why"),
    [
        ("lode-scorer", None, "plugins[mine].type", "there are: load-scorer, plain-scorer"),
        ("load-scorer", {"treshold": 1}, "plugins[mine].parameters", "treshold"),
        ("load-scorer", {"threshold": "1"}, "plugins[mine].parameters", "int"),
        ("load-scorer", [1], "plugins[mine].parameters", "object"),
        ("plain-scorer", {"a": 1}, "plugins[mine].parameters", "`a`"),
    ],
)
def test_what_the_catalogue_does_not_know_is_refused_with_its_place(
    type_name: str, parameters: object, key: str, why: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        build_plugin(CATALOGUE, type_name, "mine", parameters)
    assert caught.value.key == key
    assert why in caught.value.why
