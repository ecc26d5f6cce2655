from importlib.metadata import EntryPoint

import numpy as np
import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import NoParameters, PluginType
from pointsman_common.testing.builders import an_endpoint
from pointsman_scheduler.adapters.installed_plugins import GROUP, with_installed
from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.config import compile_config
from pointsman_scheduler.core.plugin_protocols import Plugin
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.catalogue import PLUGINS
from pointsman_scheduler.testing import a_config, a_request, candidates_of


class LastScorer:
    """Gives what a plugin must not give to all but the last endpoint, which is perfect."""

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        scores = np.full(len(candidates), np.nan)
        scores[-1] = 99.0
        return scores


class Entry:
    """As importlib.metadata gives it."""

    def __init__(self, name: str, loads: object) -> None:
        self.name, self.value, self._loads = name, "somewhere:SOMETHING", loads

    def load(self) -> object:
        if isinstance(self._loads, Exception):
            raise self._loads
        return self._loads


def entries(name: str, loads: object) -> list[EntryPoint]:
    return [Entry(name, loads)]  # type: ignore[list-item]  # stands in for one


LAST: PluginType[Plugin] = PluginType(NoParameters, lambda _name, _parameters: LastScorer())


def test_an_installed_plugin_is_named_like_any_other_and_its_scores_are_cut() -> None:
    catalogue = with_installed(PLUGINS, entries("last-scorer", LAST))
    scheduler = compile_config(a_config("last-scorer"), catalogue).scheduler
    candidates = candidates_of([an_endpoint(1), an_endpoint(2)])
    run = scheduler.schedule(a_request(), candidates).runs["default"]
    assert run.totals.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "loads", "why"),
    [
        ("queue-scorer", LAST, "exists"),
        ("mine", ImportError("no module"), "cannot be loaded"),
        ("mine", object(), "no PluginType"),
    ],
)
def test_what_cannot_be_installed_is_refused(name: str, loads: object, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        with_installed(PLUGINS, entries(name, loads))


def test_the_group_is_where_installed_plugins_are_looked_for() -> None:
    assert GROUP == "pointsman.scheduler.plugins"
    assert with_installed(PLUGINS) == PLUGINS
