"""The external metrics API as a HorizontalPodAutoscaler and its API server ask it."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.errors import SettingsError
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_common.testing.waiting import until
from pointsman_datalayer.adapters.external_metrics_api import ROOT, build_external_metrics_api
from pointsman_datalayer.app import digest_limits, external_metrics_part
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_metrics import Extraction
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.pool_digest import PoolDigests
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.settings import DatalayerSettings

OPENSSL = shutil.which("openssl")


class World:
    """Pools prod/llama and prod/qwen, a third in another namespace; saturation 0.75."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        pools = ("prod/llama", "prod/qwen", "test/llama")
        self.registry.discover(
            {
                pool: DiscoveredPool(
                    InferencePool(name=pool, hash="h"),
                    (DiscoveredEndpoint(pool, pool, "10.0.0.1:8000", {}, "vllm"),),
                )
                for pool in pools
            }
        )
        self.digests = PoolDigests(self.registry, lambda _: 0, digest_limits(DatalayerSettings()))
        self.app = build_external_metrics_api(self.clock, self.registry, self.digests)

    def pass_by(self, seconds: int) -> None:
        for second in range(seconds):
            now = self.clock.monotonic() + second
            for pool in self.registry.pools():
                metrics = EndpointMetrics(
                    waiting_requests=0,
                    running_requests=1,
                    kv_cache_utilization=0.6,
                    read_at=now,
                )
                self.registry.record_scrape(pool, Extraction(metrics, ()))
            self.digests.update(now)

    async def get(self, path: str) -> tuple[int, Any]:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            answer = await client.get(path)
            return answer.status_code, answer.json()


async def test_discovery_names_the_group_its_version_and_the_metrics() -> None:
    world = World()
    _, groups = await world.get("/apis")
    assert [group["name"] for group in groups["groups"]] == ["external.metrics.k8s.io"]
    _, group = await world.get("/apis/external.metrics.k8s.io")
    assert group["preferredVersion"]["groupVersion"] == "external.metrics.k8s.io/v1beta1"
    status, listed = await world.get(ROOT)
    assert (status, listed["kind"]) == (200, "APIResourceList")
    named = {resource["name"] for resource in listed["resources"]}
    assert "pointsman_recommended_replicas" in named
    assert all(resource["namespaced"] for resource in listed["resources"])


async def test_a_value_has_its_labels_its_time_and_a_quantity() -> None:
    world = World()
    world.pass_by(1)
    path = f"{ROOT}/namespaces/prod/pointsman_pool_saturation?labelSelector=pool%3Dllama"
    status, listed = await world.get(path)
    assert (status, listed["kind"], listed["apiVersion"]) == (
        200,
        "ExternalMetricValueList",
        "external.metrics.k8s.io/v1beta1",
    )
    (item,) = listed["items"]
    assert item["metricName"] == "pointsman_pool_saturation"
    assert item["metricLabels"] == {"namespace": "prod", "pool": "llama"}
    assert item["value"] == "750m"
    told = datetime.strptime(item["timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert told.timestamp() == world.clock.wall()


async def test_a_namespace_shows_only_its_own_pools() -> None:
    world = World()
    world.pass_by(1)
    for namespace, pools in (("prod", ["llama", "qwen"]), ("test", ["llama"]), ("none", [])):
        path = f"{ROOT}/namespaces/{namespace}/pointsman_pool_saturation"
        _, listed = await world.get(path)
        assert [item["metricLabels"]["pool"] for item in listed["items"]] == pools


async def test_what_is_not_known_yet_is_left_out_rather_than_zero() -> None:
    world = World()
    world.pass_by(1)
    path = f"{ROOT}/namespaces/test/pointsman_recommended_replicas"
    assert (await world.get(path))[1]["items"] == []
    world.pass_by(20)
    (item,) = (await world.get(path))[1]["items"]
    assert item["value"] == "2"


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        (f"{ROOT}/namespaces/prod/none", 404, "NotFound"),
        (f"{ROOT}/namespaces/prod/pointsman_pool_saturation?labelSelector=a(", 400, "BadRequest"),
        ("/apis/none", 404, "NotFound"),
    ],
)
async def test_a_refusal_is_a_kubernetes_status(path: str, code: int, reason: str) -> None:
    status, told = await World().get(path)
    assert (status, told["kind"], told["code"], told["reason"]) == (code, "Status", code, reason)


async def test_a_half_set_tls_is_refused_by_its_key() -> None:
    app = World().app
    for settings, key in (
        (DatalayerSettings(external_metrics_tls_key="k"), "external_metrics_tls_cert"),
        (DatalayerSettings(external_metrics_client_ca="c"), "external_metrics_client_ca"),
    ):
        with pytest.raises(SettingsError, match=key):
            external_metrics_part(settings, app)


async def test_tls_files_that_are_not_there_end_the_start_with_the_key() -> None:
    settings = DatalayerSettings(
        external_metrics_address="127.0.0.1:0",
        external_metrics_tls_cert="/nowhere/tls.crt",
        external_metrics_tls_key="/nowhere/tls.key",
    )
    with pytest.raises(SettingsError, match="external_metrics_address: TLS files"):
        await external_metrics_part(settings, World().app).run()


def a_certificate(folder: Path, name: str) -> tuple[str, str]:
    certificate, key = str(folder / f"{name}.crt"), str(folder / f"{name}.key")
    command = [str(OPENSSL), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"]
    command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@asynccontextmanager
async def serving(folder: Path, *, client_ca: str = "") -> AsyncGenerator[tuple[str, str]]:
    certificate, key = a_certificate(folder, "server")
    settings = DatalayerSettings(
        external_metrics_address="127.0.0.1:0",
        external_metrics_tls_cert=certificate,
        external_metrics_tls_key=key,
        external_metrics_client_ca=client_ca,
    )
    part = external_metrics_part(settings, World().app)
    task = asyncio.ensure_future(part.run())
    await until(lambda: bool(part.bound))
    yield f"https://{part.bound}{ROOT}", certificate
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificates")
async def test_it_is_served_over_tls(tmp_path: Path) -> None:
    async with serving(tmp_path) as (url, certificate):
        trust = ssl.create_default_context(cafile=certificate)
        async with httpx.AsyncClient(verify=trust) as client:
            assert (await client.get(url, timeout=20)).json()["kind"] == "APIResourceList"


@pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificates")
async def test_with_a_client_ca_only_the_api_server_may_ask(tmp_path: Path) -> None:
    mine, key = a_certificate(tmp_path, "front-proxy")
    async with serving(tmp_path, client_ca=mine) as (url, certificate):
        trust = ssl.create_default_context(cafile=certificate)
        async with httpx.AsyncClient(verify=trust) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(url, timeout=20)
        trust = ssl.create_default_context(cafile=certificate)
        trust.load_cert_chain(mine, key)
        async with httpx.AsyncClient(verify=trust) as client:
            assert (await client.get(url, timeout=20)).status_code == 200
