from pathlib import Path

from pointsman_scheduler.core.foreign_types import DETECTORS, NOT_AVAILABLE, OTHER_LAYERS
from pointsman_scheduler.plugins.catalogue import PLUGINS

PAGE = (Path(__file__).parents[3] / "docs/plugins.md").read_text()


def test_every_scheduling_type_stands_in_the_compatibility_table() -> None:
    for name in (*PLUGINS, *NOT_AVAILABLE):
        assert f"`{name}`" in PAGE, name


def test_a_type_belongs_to_one_table_only() -> None:
    assert not PLUGINS.keys() & (OTHER_LAYERS | NOT_AVAILABLE)
    assert not OTHER_LAYERS & NOT_AVAILABLE
    assert PLUGINS.keys() >= DETECTORS
