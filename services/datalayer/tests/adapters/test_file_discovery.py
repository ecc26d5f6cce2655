"""Manifests on disk, read again when they change, and refused without harm."""

import asyncio
from pathlib import Path

import pytest

from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_datalayer.adapters.file_discovery import FileDiscovery, resolve_host
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.manifest_intake import ManifestIntake
from pointsman_datalayer.core.manifests import ManifestError
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.metrics import Metrics

POOL = "default/llama"
SAMPLE = Path(__file__).parents[4] / "deploy/manifests/sample"


def a_pool(port: int = 8000) -> str:
    return f"""
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: llama}}
spec: {{selector: {{matchLabels: {{app: llama}}}}, targetPorts: [{{number: {port}}}]}}
"""


def endpoints(*hosts: str) -> str:
    return "endpoints:\n" + "\n".join(
        f"- {{name: n-{host}, address: {host}, labels: {{app: llama}}}}" for host in hosts
    )


class World:
    """A discovery over a folder, its registry, and names that resolve as told."""

    def __init__(self, path: Path | str) -> None:
        self.clock, self.metrics = VirtualClock(), Metrics()
        self.registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        self.names: dict[str, str] = {}
        self.discovery = FileDiscovery(
            str(path),
            self.clock,
            ManifestIntake(self.registry),
            self.metrics,
            poll_s=1.0,
            resolve=self._resolve,
        )

    async def _resolve(self, host: str) -> str | None:
        return self.names.get(host, host if host[0].isdigit() else None)

    async def pass_a_second(self, seconds: float = 1.1) -> None:
        task = asyncio.ensure_future(self.discovery.run())
        await self.clock.advance(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def addresses(self) -> list[str]:
        return [endpoint.address for endpoint in self.registry.endpoints(POOL)]

    def count(self, result: str) -> float | None:
        name = "pointsman_datalayer_config_reloads_total"
        return self.metrics.registry.get_sample_value(name, {"result": result})


async def test_the_sample_manifests_are_one_pool_with_three_endpoints() -> None:
    world = World(SAMPLE)
    await world.discovery.load()
    assert world.addresses() == [f"127.0.0.1:{port}" for port in (18001, 18002, 18003)]
    config = world.registry.pools()[POOL].config
    assert config.served_models == {"llama", "llama-sql"}
    assert config.objectives == {"interactive": 10, "batch": -1}
    assert world.discovery.status.warnings == ()


async def test_directories_and_files_may_be_given_together(tmp_path: Path) -> None:
    folder = tmp_path / "crds"
    folder.mkdir()
    (folder / "pool.yml").write_text(a_pool())
    (folder / "notes.txt").write_text("not a manifest: [")
    (tmp_path / "list.yaml").write_text(endpoints("10.0.0.1"))
    world = World(f"{folder}, {tmp_path / 'list.yaml'}")
    await world.discovery.load()
    assert world.addresses() == ["10.0.0.1:8000"]


async def test_a_bad_file_at_the_start_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: [")
    with pytest.raises(ManifestError, match=r"a.yaml\[0\]: is not YAML"):
        await World(tmp_path).discovery.load()


@pytest.mark.parametrize(
    ("content", "why"), [(None, "cannot be read: No such file"), (b"\xff\xfe", "is not UTF-8")]
)
async def test_a_file_that_cannot_be_read_is_an_error(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    if content is not None:
        (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ManifestError, match=why):
        await World(tmp_path / "a.yaml").discovery.load()


async def test_a_change_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(a_pool() + "---\n" + endpoints("10.0.0.1"))
    world = World(tmp_path)
    await world.discovery.load()
    (tmp_path / "b.yaml").write_text(endpoints("10.0.0.2"))
    await world.pass_a_second()
    assert world.addresses() == ["10.0.0.1:8000", "10.0.0.2:8000"]
    assert world.count("accepted") == 2


async def test_a_bad_change_keeps_the_old_in_force_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(a_pool() + "---\n" + endpoints("10.0.0.1"))
    world = World(tmp_path)
    await world.discovery.load()
    file.write_text(a_pool(port=0))
    await world.pass_a_second()
    assert world.addresses() == ["10.0.0.1:8000"]
    assert "spec.targetPorts[0].number" in world.discovery.status.error
    assert world.count("refused") == 1
    refused = "pointsman_datalayer_config_refused"
    assert world.metrics.registry.get_sample_value(refused) == 1
    await world.pass_a_second()
    assert world.count("refused") == 1  # told once
    file.write_text(a_pool(port=8001) + "---\n" + endpoints("10.0.0.1"))
    await world.pass_a_second()
    assert (world.addresses(), world.discovery.status.error) == (["10.0.0.1:8001"], "")
    assert world.metrics.registry.get_sample_value(refused) == 0


async def test_a_config_map_swapped_by_its_symbolic_link_is_noticed(tmp_path: Path) -> None:
    for version, port in (("..v1", 8000), ("..v2", 8002)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text(a_pool(port) + "---\n" + endpoints("10.0.0.1"))
    data, mounted = tmp_path / "..data", tmp_path / "a.yaml"
    data.symlink_to("..v1")
    mounted.symlink_to("..data/a.yaml")
    world = World(tmp_path)
    await world.discovery.load()
    assert world.addresses() == ["10.0.0.1:8000"]
    (tmp_path / "..new").symlink_to("..v2")
    (tmp_path / "..new").rename(data)
    await world.pass_a_second()
    assert world.addresses() == ["10.0.0.1:8002"]


async def test_a_host_that_moves_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(a_pool() + "---\n" + endpoints("engine", "lost"))
    world = World(tmp_path)
    world.names["engine"] = "10.0.0.1"
    await world.discovery.load()
    assert world.addresses() == ["10.0.0.1:8000", "lost:8000"]
    (_, lost) = world.registry.endpoints(POOL)
    assert lost.not_ready_reason == "host 'lost' has no address"
    world.names["engine"] = "10.0.0.9"
    await world.pass_a_second(6.0)
    assert world.addresses() == ["10.0.0.9:8000", "lost:8000"]


async def test_an_ip_resolves_to_itself_and_nonsense_to_nothing() -> None:
    assert await resolve_host("10.0.0.1") == "10.0.0.1"
    assert await resolve_host("::1") == "::1"
    assert await resolve_host("localhost") in ("127.0.0.1", "::1")
    assert await resolve_host("no such host!") is None
