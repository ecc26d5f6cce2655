"""Two replicas of the datalayer that run share the endpoints; one is killed under their readers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import httpx
import nats
import pytest
import yaml
from nats.aio.msg import Msg
from support.metrics_target import EngineState, MetricsTarget
from support.polling import await_until
from support.ports import free_port
from support.processes import Process, start_redis, wait_ready

from pointsman_common import subjects
from pointsman_common.contracts import pool_pb2
from pointsman_common.pool_view import PoolView

ENDPOINTS = 20
POOL = "default/shared"


class Replicas:
    def __init__(self, processes: list[Process], admins: list[str], target: MetricsTarget) -> None:
        self.processes, self.admins, self.target = processes, admins, target
        self.view = PoolView(max_age_s=5.0)
        self.publishers: dict[str, float] = {}
        """When each was last heard to speak of the pool."""

    async def hear(self, message: Msg) -> None:
        now = time.monotonic()
        if message.subject == subjects.pool_snapshot(POOL):
            snapshot = pool_pb2.PoolSnapshot.FromString(message.data)
            self.publishers[snapshot.envelope.publisher] = now
            self.view.apply_snapshot(snapshot, now)
        elif message.subject == subjects.pool_delta(POOL):
            delta = pool_pb2.PoolDelta.FromString(message.data)
            self.publishers[delta.envelope.publisher] = now
            self.view.apply_delta(delta, now)

    def ready(self) -> int:
        record = self.view.get(POOL)
        return sum(1 for _ in record.ready_endpoints()) if record else 0

    def oldest_s(self) -> float:
        record, now = self.view.get(POOL), time.monotonic()
        ages = [item.metrics.age_s(now) for item in record.endpoints.values()] if record else []
        return max(ages, default=float("inf"))

    async def scrapes(self) -> list[float]:
        counts: list[float] = []
        async with httpx.AsyncClient() as client:
            for admin, process in zip(self.admins, self.processes, strict=True):
                text = (await client.get(f"http://{admin}/metrics")).text if process.alive() else ""
                name = 'pointsman_datalayer_scrapes_total{outcome="read"} '
                lines = [line for line in text.splitlines() if line.startswith(name)]
                counts.append(float(lines[0].removeprefix(name)) if lines else 0.0)
        return counts


@pytest.fixture
async def replicas(
    start_service: Callable[[str, Mapping[str, str]], Process],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> AsyncIterator[Replicas]:
    bus_url: str = request.getfixturevalue("nats_url")
    redis_port = free_port()
    redis = start_redis(redis_port, tmp_path / "redis.log")
    request.addfinalizer(redis.stop)
    redis_url = f"redis://127.0.0.1:{redis_port}/0"
    names = [str(index) for index in range(ENDPOINTS)]
    target = MetricsTarget({name: EngineState(waiting=1) for name in names})
    pool = {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "shared"},
        "spec": {"selector": {"matchLabels": {"app": "s"}}, "targetPorts": [{"number": 8000}]},
    }
    endpoints = [
        {
            "name": f"engine-{name}",
            "address": f"10.0.0.{name}",
            "labels": {"app": "s"},
            "metricsUrl": target.url(name),
        }
        for name in names
    ]
    manifest = tmp_path / "all.yaml"
    manifest.write_text(yaml.safe_dump_all([pool, {"endpoints": endpoints}]))
    processes, admins = list[Process](), list[str]()
    for _ in range(2):
        listen, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        processes.append(
            start_service(
                "pointsman_datalayer",
                {
                    "DATALAYER_LISTEN_ADDRESS": listen,
                    "DATALAYER_ADMIN_ADDRESS": admin,
                    "DATALAYER_BUS_URL": bus_url,
                    "DATALAYER_REDIS_URL": redis_url,
                    "DATALAYER_MANIFESTS_PATH": str(manifest),
                    "DATALAYER_SCRAPE_INTERVAL_S": "0.5",
                },
            )
        )
        admins.append(admin)
    for process, admin in zip(processes, admins, strict=True):
        await asyncio.to_thread(wait_ready, process, f"http://{admin}")
    heard = Replicas(processes, admins, target)
    client = await nats.connect(bus_url)
    await client.subscribe(f"{subjects.PREFIX}.>", cb=heard.hear)
    yield heard
    await client.close()
    target.close()


async def test_replicas_share_the_work_and_a_killed_one_leaves_no_endpoint_stale(
    replicas: Replicas,
) -> None:
    async def all_ready() -> bool:
        return replicas.ready() == ENDPOINTS

    await await_until("every endpoint", all_ready)

    async def one_speaks() -> bool:
        before = dict(replicas.publishers)
        await asyncio.sleep(1.5)
        speaking = {name for name, at in replicas.publishers.items() if at != before.get(name)}
        return len(speaking) == 1

    await await_until("one speaker", one_speaks)
    before = await replicas.scrapes()
    await asyncio.sleep(2.0)
    done = [after - at for after, at in zip(await replicas.scrapes(), before, strict=True)]
    assert min(done) > 0.15 * sum(done), "both read some"
    assert sum(done) < 1.5 * ENDPOINTS * 2.0 / 0.5, "and none is read twice"

    speaker = max(replicas.publishers, key=lambda name: replicas.publishers[name])
    described = []
    async with httpx.AsyncClient() as client:
        for admin in replicas.admins:
            layers = (await client.get(f"http://{admin}/v1/layers")).json()["layers"]
            described.append({layer["replica"]: layer["admin_url"] for layer in layers})
    admin_url = described[0][speaker]
    index = next(i for i, admin in enumerate(replicas.admins) if admin_url.endswith(admin))
    replicas.processes[index].kill()
    worst_s, ends_at = 0.0, time.monotonic() + 5.0
    while time.monotonic() < ends_at:
        worst_s = max(worst_s, replicas.oldest_s())
        await asyncio.sleep(0.05)
    # 1.5 s until the lease has run out and the other knows, and what is read since.
    assert worst_s < 3.0, f"an endpoint was {worst_s:.1f} s old"
    assert replicas.ready() == ENDPOINTS
    assert replicas.oldest_s() < 2.0
