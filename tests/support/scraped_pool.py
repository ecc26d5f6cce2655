"""Datalayers that run beside NATS and Redis and scrape a pool of many endpoints, for benchmarks."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import nats
import yaml
from nats.aio.msg import Msg

from pointsman_common import subjects
from pointsman_common.contracts import pool_pb2
from pointsman_common.pool_view import PoolView
from support.polling import await_until, wait_until
from support.ports import free_port
from support.processes import Process, start_module, start_nats, start_redis, wait_ready

POOL = "default/bench"


@dataclass
class ScrapedPool:
    """The services, and what a reader of the bus sees of their pool."""

    processes: list[Process] = field(default_factory=list)
    admins: list[str] = field(default_factory=list)
    view: PoolView = field(default_factory=lambda: PoolView(max_age_s=10.0))

    async def hear(self, message: Msg) -> None:
        now = time.monotonic()
        if message.subject == subjects.pool_snapshot(POOL):
            self.view.apply_snapshot(pool_pb2.PoolSnapshot.FromString(message.data), now)
        elif message.subject == subjects.pool_delta(POOL):
            self.view.apply_delta(pool_pb2.PoolDelta.FromString(message.data), now)

    def ages_s(self) -> list[float]:
        record, now = self.view.get(POOL), time.monotonic()
        return [item.metrics.age_s(now) for item in record.endpoints.values()] if record else []

    def ready(self) -> int:
        record = self.view.get(POOL)
        return sum(1 for _ in record.ready_endpoints()) if record else 0

    def cpu_s(self, replica: int) -> float:
        """Seconds that a service has run for, in user and system mode (Linux)."""
        stat = Path(f"/proc/{self.processes[replica].pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def scrapes(self, replica: int) -> float:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://{self.admins[replica]}/metrics", timeout=20.0)).text
        name = 'pointsman_datalayer_scrapes_total{outcome="read"} '
        return sum(float(x.removeprefix(name)) for x in text.splitlines() if x.startswith(name))


@asynccontextmanager
async def scraped_pool(
    folder: Path, address: str, endpoints: int, *, replicas: int
) -> AsyncIterator[ScrapedPool]:
    """Each endpoint is scraped once a second; yields when all are ready."""
    bus_port, redis_port = free_port(), free_port()
    bus = start_nats(bus_port, folder / "nats.log")
    redis = start_redis(redis_port, folder / "redis.log")
    bus_url = f"nats://127.0.0.1:{bus_port}"
    (folder / "all.yaml").write_text(_manifests(address, endpoints))
    scraped = ScrapedPool()
    try:
        wait_until("nats", lambda: "Server is ready" in bus.output())
        for number in range(replicas):
            admin = f"127.0.0.1:{free_port()}"
            environment = {
                "DATALAYER_LISTEN_ADDRESS": f"127.0.0.1:{free_port()}",
                "DATALAYER_ADMIN_ADDRESS": admin,
                "DATALAYER_BUS_URL": bus_url,
                "DATALAYER_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
                "DATALAYER_MANIFESTS_PATH": str(folder / "all.yaml"),
                "DATALAYER_SCRAPE_INTERVAL_S": "1.0",
                "DATALAYER_SCRAPE_IDLE_INTERVAL_S": "1.0",
            }
            log = folder / f"datalayer-{number}.log"
            scraped.processes.append(start_module("pointsman_datalayer", log, environment))
            scraped.admins.append(admin)
        for process, admin in zip(scraped.processes, scraped.admins, strict=True):
            wait_ready(process, f"http://{admin}")
        client = await nats.connect(bus_url)
        await client.subscribe(f"{subjects.PREFIX}.>", cb=scraped.hear)

        async def all_ready() -> bool:
            return scraped.ready() == endpoints

        await await_until("every endpoint", all_ready, timeout_s=60.0)
        yield scraped
        await client.close()
    finally:
        for process in (*scraped.processes, redis, bus):
            process.stop()


def listed_endpoint(address: str, number: int) -> dict[str, object]:
    return {
        "name": f"e{number}",
        "address": f"10.0.{number >> 8}.{number & 255}",
        "labels": {"app": "b"},
        "metricsUrl": f"http://{address}/{number}/metrics",
    }


def _manifests(address: str, endpoints: int) -> str:
    pool = {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "bench"},
        "spec": {"selector": {"matchLabels": {"app": "b"}}, "targetPorts": [{"number": 8000}]},
    }
    listed = [listed_endpoint(address, number) for number in range(endpoints)]
    return yaml.safe_dump_all([pool, {"endpoints": listed}])
