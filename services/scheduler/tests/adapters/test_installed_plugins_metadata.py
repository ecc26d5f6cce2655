"""A package that is really installed, as far as Python's own metadata can tell."""

import sys
from pathlib import Path

import pytest

from pointsman_scheduler.adapters.installed_plugins import with_installed
from pointsman_scheduler.core.config import compile_config
from pointsman_scheduler.plugins.catalogue import PLUGINS
from pointsman_scheduler.testing import a_config

MODULE = """
from pointsman_common.plugin_catalogue import NoParameters, PluginType


class FewestStreamsScorer:
    def score(self, request, candidates):
        return 1.0 / (1.0 + candidates.serving)


FEWEST_STREAMS = PluginType(NoParameters, lambda name, parameters: FewestStreamsScorer())
"""


def test_a_plugin_of_an_installed_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fewest_streams_plugin.py").write_text(MODULE)
    info = tmp_path / "fewest_streams-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fewest-streams\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[pointsman.scheduler.plugins]\n"
        "fewest-streams-scorer = fewest_streams_plugin:FEWEST_STREAMS\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        catalogue = with_installed(PLUGINS)
    finally:
        sys.modules.pop("fewest_streams_plugin", None)
    assert "fewest-streams-scorer" in catalogue
    config = compile_config(a_config("fewest-streams-scorer"), catalogue)
    assert [one.name for one in config.scheduler.profiles["default"].scorers] == [
        "fewest-streams-scorer"
    ]
