"""The whole stack but for Envoy, with one pool a case; see support/case_pools.py."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.case_pools import POOLS, CasePool, write_manifests
from support.ext_proc_client import Gateway
from support.metrics_target import MetricsTarget
from support.polling import wait_until
from support.ports import free_port
from support.processes import Process, http_text, start_module, start_nats, wait_ready


@dataclass
class Stack:
    edge: str
    edge_health: str
    edge_admin: str
    datalayer_admin: str
    flow_admin: str
    target: MetricsTarget
    manifests: Path
    common: dict[str, str]
    """Settings that every service but the datalayer is given."""
    edge_settings: dict[str, str]
    processes: dict[str, Process]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("upstream")
    target = MetricsTarget()
    write_manifests(folder / "manifests", target)
    ports = {name: free_port() for name in PORTS}
    address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    common = {
        "BUS_URL": f"nats://{address['nats']}",
        "DATALAYER_URL": f"grpc://{address['datalayer']}",
        "DRAIN_S": "2",
    }
    settings = {
        "datalayer": {
            "MANIFESTS_PATH": str(folder / "manifests"),
            "REDIS_URL": "",
            "LISTEN_ADDRESS": address["datalayer"],
            "ADMIN_ADDRESS": address["datalayer_admin"],
            "SCRAPE_IDLE_INTERVAL_S": "0.05",
        },
        "router": {"LISTEN_ADDRESS": address["router"], "ADMIN_ADDRESS": address["router_admin"]},
        "flow_controller": {
            "LISTEN_ADDRESS": address["flow"],
            "ADMIN_ADDRESS": address["flow_admin"],
        },
        "scheduler": {
            "LISTEN_ADDRESS": address["scheduler"],
            "ADMIN_ADDRESS": address["scheduler_admin"],
            "DEFAULT_POLICY": "upstream",
        },
        "ext_proc": {
            "LISTEN_ADDRESS": address["edge"],
            "HEALTH_ADDRESS": address["edge_health"],
            "ADMIN_ADDRESS": address["edge_admin"],
            "ROUTER_URL": f"grpc://{address['router']}",
            "FLOW_CONTROLLER_URL": f"grpc://{address['flow']}",
            "SCHEDULER_URL": f"grpc://{address['scheduler']}",
            "POOL": "default/case-1",
            "POOL_FROM_METADATA": "true",
            "ERROR_FORMAT": "upstream",
            "EMIT_ENDPOINT_SCORES": "true",
            "ECHO_SERVED_ENDPOINT": "true",
        },
    }
    processes = {"nats": start_nats(ports["nats"], folder / "nats.log")}
    try:
        for name, own in settings.items():
            values = {**({} if name == "datalayer" else common), **own}
            values["BUS_URL"] = common["BUS_URL"]
            environment = {f"{name.upper()}_{key}": value for key, value in values.items()}
            processes[name] = start_module(f"pointsman_{name}", folder / f"{name}.log", environment)
        for name, admin in ADMINS.items():
            wait_ready(processes[name], f"http://{address[admin]}")
        datalayer = f"http://{address['datalayer_admin']}"
        wait_until("every pool's metrics", lambda: _all_scraped(datalayer))
        yield Stack(
            edge=address["edge"],
            edge_health=address["edge_health"],
            edge_admin=f"http://{address['edge_admin']}",
            datalayer_admin=datalayer,
            flow_admin=f"http://{address['flow_admin']}",
            target=target,
            manifests=folder / "manifests",
            common=common,
            edge_settings={**common, **settings["ext_proc"]},
            processes=processes,
        )
    finally:
        for process in reversed(processes.values()):
            process.terminate()
        for process in reversed(processes.values()):
            process.stop()
        target.close()


PORTS = (
    "nats",
    "datalayer",
    "datalayer_admin",
    "router",
    "router_admin",
    "flow",
    "flow_admin",
    "scheduler",
    "scheduler_admin",
    "edge",
    "edge_health",
    "edge_admin",
)
ADMINS = {
    "datalayer": "datalayer_admin",
    "router": "router_admin",
    "flow_controller": "flow_admin",
    "scheduler": "scheduler_admin",
    "ext_proc": "edge_admin",
}


def _all_scraped(datalayer: str) -> bool:
    return all(
        all(
            item["metrics"].get("waiting_requests") is not None
            for item in pool_endpoints(datalayer, pool)
            if item["labels"].get("unscraped") is None
        )
        for pool in POOLS.values()
    )


def pool_endpoints(datalayer: str, pool: CasePool) -> list[dict]:
    return json.loads(http_text(f"{datalayer}/v1/pools/{pool.full_name}"))["endpoints"]


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> CasePool:
    return POOLS[request.function.case_pool]


@pytest.fixture
async def gateway(stack: Stack, pool: CasePool) -> AsyncIterator[Gateway]:
    opened = Gateway(stack.edge, pool=pool.full_name)
    yield opened
    await opened.close()
