"""The whole stack but for Envoy, with one pool and one edge a case; see support/case_pools.py."""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.case_pools import POOLS, CasePool, write_manifests
from support.case_stack import Stack
from support.ext_proc_client import Gateway
from support.metrics_target import MetricsTarget
from support.polling import wait_until
from support.ports import free_port
from support.processes import Process, http_text, start_module, start_nats, wait_ready
from support.transport import TEST_TRANSPORT

SERVICES = ("datalayer", "router", "flow_controller", "scheduler")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("upstream")
    target = MetricsTarget()
    write_manifests(folder / "manifests", target)
    nats_port = free_port()
    bus_url = f"nats://127.0.0.1:{nats_port}"
    hooks = {name: f"127.0.0.1:{free_port()}" for name in SERVICES}
    admins = {name: f"127.0.0.1:{free_port()}" for name in SERVICES}
    datalayer_url = f"grpc://{hooks['datalayer']}"
    own: dict[str, dict[str, Any]] = {
        "datalayer": {
            "MANIFESTS_PATH": folder / "manifests",
            "REDIS_URL": "",
            # A hundred endpoints are served from one test process, on a machine that may be busy:
            # not as often as in production, and an answer that comes late is no dead engine.
            "SCRAPE_INTERVAL_S": 0.25,
            "SCRAPE_IDLE_INTERVAL_S": 0.25,
            "UNREADY_AFTER_FAILURES": 1_000,
            "UNREADY_AFTER_S": 60,
        },
        # The scores are exact for metrics that count as fresh, however long the scrape took.
        "scheduler": {"DEFAULT_POLICY": "upstream", "METRICS_FRESH_S": 60},
    }
    edges = {
        name: {
            "pool": pool.full_name,
            "bus_url": bus_url,
            "datalayer_url": datalayer_url,
            "listen_address": f"127.0.0.1:{free_port()}",
            "health_address": f"127.0.0.1:{free_port()}",
            "admin_address": f"127.0.0.1:{free_port()}",
            "router_url": f"grpc://{hooks['router']}",
            "flow_controller_url": f"grpc://{hooks['flow_controller']}",
            "scheduler_url": f"grpc://{hooks['scheduler']}",
            # Two hundred requests at once are slow where cores are few; no case is about deadlines.
            "route_timeout_s": 20,
            "pick_timeout_s": 20,
            "error_format": "upstream",
            "rpc_transport": TEST_TRANSPORT,
            "emit_endpoint_scores": True,
            "echo_served_endpoint": True,
        }
        for name, pool in POOLS.items()
    }
    (folder / "edges.json").write_text(json.dumps(list(edges.values())))
    processes = {"nats": start_nats(nats_port, folder / "nats.log")}
    try:
        for name in SERVICES:
            values = {
                "BUS_URL": bus_url,
                "LISTEN_ADDRESS": hooks[name],
                "ADMIN_ADDRESS": admins[name],
                "DRAIN_S": 1,
                **({} if name == "datalayer" else {"DATALAYER_URL": datalayer_url}),
                **own.get(name, {}),
            }
            environment = {f"{name.upper()}_{key}": str(value) for key, value in values.items()}
            processes[name] = start_module(f"pointsman_{name}", folder / f"{name}.log", environment)
        command = [sys.executable, "-m", "support.many_edges", str(folder / "edges.json")]
        path = {"PYTHONPATH": str(Path(__file__).parents[1])}
        processes["edges"] = Process("edges", command, folder / "edges.log", path)
        for name in SERVICES:
            wait_ready(processes[name], f"http://{admins[name]}")
        for settings in edges.values():
            wait_ready(processes["edges"], f"http://{settings['admin_address']}")
        ready = Stack(
            admins={name: f"http://{address}" for name, address in admins.items()},
            edges=edges,
            bus_url=bus_url,
            datalayer_url=datalayer_url,
            target=target,
            manifests=folder / "manifests",
            processes=processes,
        )
        wait_until("every pool's metrics", lambda: all_scraped(ready))
        yield ready
    finally:
        for process in reversed(processes.values()):
            process.kill()
        target.close()


def all_scraped(stack: Stack) -> bool:
    return all(
        endpoint["metrics"].get("kv_cache_utilization") is not None
        for pool in POOLS.values()
        for endpoint in pool_endpoints(stack, pool)
    )


def pool_endpoints(stack: Stack, pool: CasePool) -> list[dict[str, Any]]:
    state = json.loads(http_text(f"{stack.datalayer_admin}/v1/pools/{pool.full_name}"))
    found: list[dict[str, Any]] = state["endpoints"]
    return found


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> CasePool:
    return POOLS[request.function.case_pool]


@pytest.fixture
async def gateway(stack: Stack, pool: CasePool) -> AsyncIterator[Gateway]:
    opened = Gateway(stack.edges[pool.name]["listen_address"])
    yield opened
    await opened.close()
