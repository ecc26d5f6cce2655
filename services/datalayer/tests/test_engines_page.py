"""What docs/engines.md shows works as it stands there."""

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine_pages import VLLM

from pointsman_common.settings_loader import load_settings
from pointsman_datalayer.adapters.installed_plugins import EXTRACTORS_GROUP, with_installed
from pointsman_datalayer.core.data_source import extract_all
from pointsman_datalayer.core.engine_mappings import ENGINES
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.plugins.catalogue import EXTRACTORS, SOURCES
from pointsman_datalayer.plugins.data_layer import DataLayer, build_data_layer
from pointsman_datalayer.settings import DatalayerSettings

PAGE = (Path(__file__).parents[3] / "docs/engines.md").read_text()
ENDPOINT = DiscoveredEndpoint("a", "default/a-rank-0", "10.0.0.1:8000", {}, "vllm")


def shown(name: str) -> list[str]:
    """The blocks that are shown as a file of that name."""
    return re.findall(rf"^```\w+ {re.escape(name)}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of the example, as pip leaves it."""
    (module,), (project,) = shown("house_plugins.py"), shown("pyproject.toml")
    (tmp_path / "house_plugins.py").write_text(module)
    (points,) = tomllib.loads(project)["project"]["entry-points"].items()
    info = tmp_path / "house_plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: house-plugins\nVersion: 1.0\n")
    lines = [f"[{points[0]}]", *(f"{name} = {value}" for name, value in points[1].items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("house_plugins", None)


def data_layer(folder: Path, settings: str) -> DataLayer:
    path = folder / "datalayer.yaml"
    path.write_text(settings)
    loaded = load_settings(DatalayerSettings, prefix="X_", path=str(path), environment={})
    extractors = with_installed(EXTRACTORS, EXTRACTORS_GROUP)
    return build_data_layer(loaded.data_sources, loaded.scrape_path, SOURCES, extractors)


def test_the_example_of_an_extractor_is_found_by_its_entry_point_and_read_beside_ours(
    installed: Path,
) -> None:
    layer = data_layer(installed, shown("datalayer.yaml")[1])
    body = f"{VLLM}oldest_waiting_seconds 1.5\n".encode()
    assert extract_all(layer.metrics, ENDPOINT, body) == ({"OldestWaitSeconds": 1.5}, {})
    assert layer.core.read(ENDPOINT, body, 0.0).metrics.waiting_requests == 2


def test_the_example_is_ten_lines_beside_its_imports(installed: Path) -> None:
    (module,) = shown("house_plugins.py")
    lines = [line for line in module.splitlines() if line and not line.startswith("from")]
    assert len(lines) <= 10


def test_the_settings_that_are_shown_are_taken(tmp_path: Path) -> None:
    layer = data_layer(tmp_path, shown("datalayer.yaml")[0])
    assert [source.type_name for source in layer.others] == [
        "models-data-source",
        "dcgm-data-source",
    ]
    mine = DiscoveredEndpoint(
        "m", "default/m-rank-0", "10.0.0.1:8000", {"example.com/engine": "my-engine"}, "vllm"
    )
    page = (
        b'my_requests{state="running"} 4\nmy_requests{state="queued"} 3\nmy_kv_usage 0.5\n'
        b"my_block_tokens 16\nmy_blocks 100\n"
    )
    metrics = layer.core.read(mine, page, 0.0).metrics
    assert (metrics.waiting_requests, metrics.running_requests) == (3, 4)
    assert (metrics.block_size_tokens, metrics.kv_cache_blocks) == (16, 100)
    vllm = f'{VLLM}vllm:num_preemptions_total{{engine="0"}} 7\n'.encode()
    assert layer.core.read(ENDPOINT, vllm, 0.0).metrics.attributes == {"Preemptions": 7.0}


def test_every_engine_and_every_type_is_on_the_page() -> None:
    for name in (*ENGINES, *SOURCES, *EXTRACTORS):
        assert f"`{name}`" in PAGE, name
    for mapping in ENGINES.values():
        for spec in (mapping.waiting, mapping.running, mapping.kv_cache):
            assert spec is None or spec.name in PAGE or f"…{{{spec.labels}" in PAGE
