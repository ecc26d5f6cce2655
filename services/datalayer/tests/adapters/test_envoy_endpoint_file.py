"""Envoy's file follows the membership, ready or not."""

import asyncio
import json
from pathlib import Path

from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_datalayer.adapters.envoy_endpoint_file import EnvoyEndpointFile
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.metrics import Metrics


def discover(registry: EndpointRegistry, *hosts: str) -> None:
    endpoints = tuple(
        DiscoveredEndpoint(
            host, host, f"{host}:80", {}, "vllm", problem="" if host[0] == "1" else "x"
        )
        for host in hosts
    )
    config = InferencePool(name="default/llama")
    registry.discover({"default/llama": DiscoveredPool(config, endpoints)})


def hosts(file: Path) -> list[str]:
    listed = json.loads(file.read_text())["resources"][0]["endpoints"][0]["lb_endpoints"]
    return [item["endpoint"]["address"]["socket_address"]["address"] for item in listed]


async def test_the_file_follows_the_membership(tmp_path: Path) -> None:
    clock, metrics, file = VirtualClock(), Metrics(), tmp_path / "eds" / "file.json"
    registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
    part = EnvoyEndpointFile(str(file), "pool_endpoints", clock, registry, metrics)
    task = asyncio.ensure_future(part.run())
    await clock.advance(0.1)
    errors = "pointsman_datalayer_envoy_file_errors_total"
    assert metrics.registry.get_sample_value(errors) == 1  # there is no such directory
    file.parent.mkdir()
    await clock.advance(1.0)
    assert hosts(file) == []
    discover(registry, "10.0.0.1", "unresolved", "10.0.0.2")
    await clock.advance(0.1)
    assert hosts(file) == ["10.0.0.1", "10.0.0.2"]
    inode = file.stat().st_ino
    registry.record_nonsense("10.0.0.1", "HTTP 500")  # now ready, which changes nothing here
    await clock.advance(0.1)
    assert file.stat().st_ino == inode
    discover(registry, "10.0.0.2")
    await clock.advance(0.1)
    assert hosts(file) == ["10.0.0.2"]
    assert file.stat().st_ino != inode
    assert [item.name for item in file.parent.iterdir()] == ["file.json"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
