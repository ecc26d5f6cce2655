"""The whole system on loopback: Envoy, NATS, Redis, engines, any number of replicas of a layer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml

from pointsman_cli.core.envoy_config import EnvoyPlan, empty_endpoints_file, render_envoy_config
from pointsman_cli.core.gateway_options import CompletionSignal, ResponseMode
from support.polling import wait_until
from support.ports import free_port
from support.processes import (
    Process,
    http_status,
    http_text,
    program,
    start_module,
    start_nats,
    start_redis,
    wait_ready,
)

POOL = "default/llama"
LAYERS = ("datalayer", "router", "flow_controller", "scheduler")


@dataclass(frozen=True)
class GatewaySpec:
    """One Envoy and its edges."""

    response_mode: ResponseMode = ResponseMode.STREAMED
    completion_signal: CompletionSignal = CompletionSignal.ACCESS_LOG
    edges: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of its edges, beyond the stack's."""


@dataclass
class Replica:
    process: Process
    address: str
    admin: str

    def metrics(self) -> str:
        return http_text(f"{self.admin}/metrics")

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of one series name that carry all the labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in self.metrics().splitlines()
            if line.split("{")[0].split(" ")[0] == name and all(item in line for item in wanted)
        )


class WholeStack:
    """Starts in the constructor; `close` stops what it started."""

    def __init__(
        self,
        folder: Path,
        *,
        engines: int = 3,
        engine_arguments: tuple[str, ...] = (),
        endpoints: tuple[int, ...] = (),
        replicas: Mapping[str, int] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        gateways: Mapping[str, GatewaySpec] | None = None,
        manifests: Mapping[str, str] | None = None,
        served_models: str = "llama,llama-sql",
    ) -> None:
        """`endpoints` are ports of model servers that the test serves itself, in place of engines.
        `settings` are by service; `manifests` are further files by name."""
        self.folder = folder
        self._settings, self._replicas = settings or {}, replicas or {}
        self.processes: list[Process] = []
        self.layers: dict[str, list[Replica]] = {}
        self.gateways: dict[str, str] = {}
        self.edges: dict[str, list[Replica]] = {}
        self.envoys: dict[str, Process] = {}
        self.manifests = folder / "manifests"
        self.manifests.mkdir(parents=True)
        self.engine_ports = endpoints or tuple(free_port() for _ in range(engines))
        self._serves_itself = bool(endpoints)
        (self.manifests / "pool.yaml").write_text(_pool_manifest(served_models))
        self.write_endpoints(self.engine_ports)
        for name, text in (manifests or {}).items():
            (self.manifests / name).write_text(text)
        try:
            self._start(engine_arguments, gateways or {"main": GatewaySpec()})
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Of the first gateway."""
        return next(iter(self.gateways.values()))

    @property
    def edge(self) -> Replica:
        return next(iter(self.edges.values()))[0]

    @property
    def rest(self) -> str:
        """Of the datalayer's REST API."""
        return self.layers["datalayer"][0].admin

    def pool_state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(http_text(f"{self.rest}/v1/pools/{POOL}"))
        return state

    def in_flight(self) -> int:
        """Open leases of the pool, as the datalayer sees them."""
        return sum(endpoint["in_flight"] for endpoint in self.pool_state()["endpoints"])

    def write_endpoints(self, ports: tuple[int, ...], *, name: str = "endpoints.yaml") -> None:
        entries = [
            {
                "name": f"engine-{port}",
                "namespace": "default",
                "address": "127.0.0.1",
                "port": port,
                "labels": {"app": "llama"},
            }
            for port in ports
        ]
        # By rename: a reader never sees half of it.
        scratch = self.folder / f"{name}.new"
        scratch.write_text(yaml.safe_dump({"endpoints": entries}))
        scratch.rename(self.manifests / name)

    def start_engine(self, port: int, *arguments: str) -> Process:
        engine = start_module(
            "pointsman_simulator",
            self.folder / f"engine-{port}.log",
            {},
            *("--host", "127.0.0.1", "--port", str(port), "--profile", "demo"),
            *("--model", "llama", "--lora", "llama-sql", *arguments),
        )
        self.processes.append(engine)
        return engine

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(
        self, engine_arguments: tuple[str, ...], gateways: Mapping[str, GatewaySpec]
    ) -> None:
        self.nats_port, self.redis_port = free_port(), free_port()
        self.nats = self._own(start_nats(self.nats_port, self.folder / "nats.log"))
        self.redis = self._own(start_redis(self.redis_port, self.folder / "redis.log"))
        self.engines = (
            []
            if self._serves_itself
            else [self.start_engine(port, *engine_arguments) for port in self.engine_ports]
        )
        self._endpoints_file = self.folder / "envoy" / "endpoints.json"
        self._endpoints_file.parent.mkdir()
        self._endpoints_file.write_text(empty_endpoints_file())
        ports = {
            name: [(free_port(), free_port()) for _ in range(self._replicas.get(name, 1))]
            for name in LAYERS
        }
        self._urls = {
            name: ",".join(f"grpc://127.0.0.1:{port}" for port, _ in pairs)
            for name, pairs in ports.items()
        }
        for name, pairs in ports.items():
            self.layers[name] = [self.start_layer(name, port, admin) for port, admin in pairs]
        for name, spec in gateways.items():
            self._start_gateway(name, spec)
        self.wait_ready()

    def start_layer(self, name: str, port: int, admin: int) -> Replica:
        values: dict[str, Any] = {
            "LISTEN_ADDRESS": f"127.0.0.1:{port}",
            "ADMIN_ADDRESS": f"127.0.0.1:{admin}",
        }
        if name == "datalayer":
            values |= {
                "MANIFESTS_PATH": self.manifests,
                "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
                "ENVOY_EDS_PATH": self._endpoints_file,
            }
        return self._start_service(name, values, port, admin)

    def _start_service(self, name: str, own: Mapping[str, Any], port: int, admin: int) -> Replica:
        values: dict[str, Any] = {
            "BUS_URL": f"nats://127.0.0.1:{self.nats_port}",
            "DRAIN_S": 2,
            **own,
            **{key.upper(): value for key, value in self._settings.get(name, {}).items()},
        }
        if name != "datalayer":
            values.setdefault("DATALAYER_URL", self._urls["datalayer"])
        environment = {f"{name.upper()}_{key}": str(value) for key, value in values.items()}
        process = self._own(
            start_module(f"pointsman_{name}", self.folder / f"{name}-{port}.log", environment)
        )
        return Replica(process, f"127.0.0.1:{port}", f"http://127.0.0.1:{admin}")

    def _start_gateway(self, name: str, spec: GatewaySpec) -> None:
        edges = [self.start_edge(spec) for _ in range(spec.edges)]
        port, admin = free_port(), free_port()
        plan = EnvoyPlan(
            listen_address=f"127.0.0.1:{port}",
            admin_address=f"127.0.0.1:{admin}",
            edge_addresses=tuple(edge.address for edge in edges),
            endpoints_path=str(self._endpoints_file),
            response_mode=spec.response_mode,
            completion_signal=spec.completion_signal,
        )
        config = self.folder / f"envoy-{name}.yaml"
        config.write_text(render_envoy_config(plan))
        command = [program("envoy"), "-c", str(config), "--use-dynamic-base-id"]
        command += ["--concurrency", "1", "--log-level", "warning"]
        envoy = self._own(Process(f"envoy {name}", command, self.folder / f"envoy-{name}.log"))
        self.gateways[name], self.edges[name] = f"http://127.0.0.1:{port}", edges
        self.envoys[name] = envoy
        self._envoy_admins = [*getattr(self, "_envoy_admins", []), f"http://127.0.0.1:{admin}"]

    def start_edge(self, spec: GatewaySpec) -> Replica:
        port, admin = free_port(), free_port()
        values = {
            "LISTEN_ADDRESS": f"127.0.0.1:{port}",
            "HEALTH_ADDRESS": f"127.0.0.1:{free_port()}",
            "ADMIN_ADDRESS": f"127.0.0.1:{admin}",
            "POOL": POOL,
            "ROUTER_URL": self._urls["router"],
            "FLOW_CONTROLLER_URL": self._urls["flow_controller"],
            "SCHEDULER_URL": self._urls["scheduler"],
            "COMPLETION_SIGNAL": str(spec.completion_signal),
            **{key.upper(): value for key, value in spec.settings.items()},
        }
        return self._start_service("ext_proc", values, port, admin)

    def wait_ready(self) -> None:
        for replicas in (*self.layers.values(), *self.edges.values()):
            for replica in replicas:
                wait_ready(replica.process, replica.admin)
        for admin in self._envoy_admins:
            wait_until("Envoy", partial(_envoy_ready, admin))
        expected = len(self.engine_ports)
        wait_until(
            "every endpoint scraped and ready",
            lambda: (
                sum(
                    endpoint["ready"] and endpoint["metrics"].get("waiting_requests") is not None
                    for endpoint in self.pool_state()["endpoints"]
                )
                == expected
            ),
        )
        if expected:
            for admin in self._envoy_admins:
                wait_until("Envoy's members", partial(_envoy_has_members, admin))

    def _own(self, process: Process) -> Process:
        self.processes.append(process)
        return process


def _envoy_ready(admin: str) -> bool:
    return http_status(f"{admin}/ready") == 200


def _envoy_has_members(admin: str) -> bool:
    return "pool_endpoints::127.0.0.1:" in http_text(f"{admin}/clusters")


def _pool_manifest(served_models: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": {
                "name": "llama",
                "namespace": "default",
                "annotations": {
                    "pointsman.dev/served-models": served_models,
                    "pointsman.dev/lora-adapters": "llama-sql",
                },
            },
            "spec": {
                "selector": {"matchLabels": {"app": "llama"}},
                "targetPorts": [{"number": 8000}],
                "endpointPickerRef": {"name": "pointsman", "port": {"number": 9002}},
            },
        }
    )
