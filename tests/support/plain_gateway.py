"""Envoy without a picker: round-robin over engines of its own, to compare with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from support.polling import wait_until
from support.ports import free_port
from support.processes import Process, http_status, program, start_module


@dataclass(frozen=True)
class PlainGateway:
    url: str
    engine_ports: tuple[int, ...]


@contextmanager
def start_round_robin(
    folder: Path, *, engines: int, engine_arguments: tuple[str, ...] = ()
) -> Iterator[PlainGateway]:
    ports = tuple(free_port() for _ in range(engines))
    port = free_port()
    processes = [
        start_module(
            "pointsman_simulator",
            folder / f"plain-engine-{engine}.log",
            {},
            *("--host", "127.0.0.1", "--port", str(engine), "--profile", "demo"),
            *("--model", "llama", "--lora", "llama-sql", *engine_arguments),
        )
        for engine in ports
    ]
    config = folder / "plain-envoy.yaml"
    config.write_text(yaml.safe_dump(_bootstrap(port, ports)))
    command = [program("envoy"), "-c", str(config), "--use-dynamic-base-id"]
    command += ["--concurrency", "1", "--log-level", "warning"]
    processes.append(Process("plain envoy", command, folder / "plain-envoy.log"))
    try:
        for engine in ports:
            url = f"http://127.0.0.1:{engine}/health"
            wait_until(f"engine {engine}", partial(_answers, url))
        wait_until("Envoy", partial(_answers, f"http://127.0.0.1:{port}/health"))
        yield PlainGateway(f"http://127.0.0.1:{port}", ports)
    finally:
        for process in reversed(processes):
            process.stop()


def _answers(url: str) -> bool:
    return http_status(url) == 200


def _bootstrap(port: int, engines: tuple[int, ...]) -> dict[str, object]:
    def address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    extension = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{extension}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "pool", "timeout": "0s"}}
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{extension}.http.router.v3.Router"},
            }
        ],
    }
    members = [{"endpoint": {"address": address(engine)}} for engine in engines]
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "plain",
                    "address": address(port),
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "pool",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "lb_policy": "ROUND_ROBIN",
                    "load_assignment": {
                        "cluster_name": "pool",
                        "endpoints": [{"lb_endpoints": members}],
                    },
                }
            ],
        }
    }
