"""Which parts make up the stack on one machine, how each is started, and when it is ready.

A plan is plain data: the same options, ports and folders give the same plan. Starting it is for
adapters/supervisor.py.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from pointsman_cli.core import sample_pool
from pointsman_cli.core.envoy_config import EnvoyPlan, empty_endpoints_file, render_envoy_config
from pointsman_cli.core.gateway_options import CompletionSignal, ResponseMode
from pointsman_cli.core.store_configs import nats_config, redis_config

HOST = "127.0.0.1"
SOCKET_PATH_BYTES = 107
"""What the kernel takes as the path of a Unix socket."""

SERVICES = ("datalayer", "router", "flow-controller", "scheduler", "ext-proc")
DRAIN_S = 5.0
"""Shorter than in production: somebody waits at a terminal."""


class StackOptions(msgspec.Struct, frozen=True, kw_only=True):
    port: int = 8080
    console_port: int = 8081
    engines: int = 3
    profile: str = "demo"
    """Of the simulated engines: how fast they are."""

    response_mode: ResponseMode = ResponseMode.STREAMED
    completion_signal: CompletionSignal = CompletionSignal.ACCESS_LOG


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    """Paths."""

    python: str
    envoy: str
    nats_server: str
    redis_server: str


class Folders(msgspec.Struct, frozen=True, kw_only=True):
    """Absolute paths. `manifests` is the user's own folder, or empty for the sample pool."""

    run: str
    sockets: str
    manifests: str = ""
    pool: str = sample_pool.POOL
    """`<namespace>/<name>` that the gateway serves."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """Ready when `url` answers 200, or, for `redis://host:port`, when a PING is answered."""

    url: str
    deadline_s: float = 60.0


class Part(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    stage: int
    """Parts of a stage start together; the next stage waits until they are ready."""
    command: tuple[str, ...]
    address: str
    """For people: where it serves."""
    probe: Probe


class StackPlan(msgspec.Struct, frozen=True, kw_only=True):
    parts: tuple[Part, ...]
    """In the order of starting."""

    files: Mapping[str, str]
    """Text by absolute path, to be written before anything starts."""

    fixed_ports: Mapping[str, int]
    """Ports that the user chose, by what they are for."""

    gateway: str
    console: str
    answer_probe: Probe | None
    """An answer of a model server through the whole chain; `None` when none is expected."""


def needed_ports(options: StackOptions) -> tuple[str, ...]:
    """Names of the free ports that `plan_stack` wants."""
    admins = [f"{name} admin" for name in SERVICES if name != "datalayer"]
    engines = [f"engine-{number}" for number in range(1, options.engines + 1)]
    return ("nats", "nats monitor", "redis", "envoy admin", "ext-proc health", *admins, *engines)


def sockets_fit(folder: str) -> bool:
    """Whether the sockets' paths in this folder are short enough for the kernel."""
    longest = max(len(f"{folder}/{name}.sock".encode()) for name in SERVICES)
    return longest <= SOCKET_PATH_BYTES


def plan_stack(
    options: StackOptions, programs: Programs, folders: Folders, ports: Mapping[str, int]
) -> StackPlan:
    """Plan the parts. `ports` gives a free port for each of `needed_ports`."""
    own = folders.manifests
    manifests = own or f"{folders.run}/manifests"
    services = _service_settings(options, folders, manifests, ports)
    console = f"{HOST}:{options.console_port}"
    gateway = f"{HOST}:{options.port}"
    config = f"{folders.run}/config"
    files = {
        f"{config}/nats.conf": nats_config(HOST, ports["nats"], ports["nats monitor"]),
        f"{config}/redis.conf": redis_config(HOST, ports["redis"]),
        f"{config}/envoy.yaml": render_envoy_config(_envoy_plan(options, folders, ports)),
        _endpoints_path(folders): empty_endpoints_file(),
        **{
            f"{config}/{name}.yaml": yaml.safe_dump(settings, sort_keys=False)
            for name, settings in services.items()
        },
    }
    if not own:
        engines = [(HOST, ports[f"engine-{n}"]) for n in range(1, options.engines + 1)]
        files[f"{manifests}/pool.yaml"] = sample_pool.POOL_MANIFEST
        files[f"{manifests}/endpoints.yaml"] = sample_pool.endpoints_manifest(engines)
    return StackPlan(
        parts=(
            *_stores(programs, config, ports),
            *_engines(options, programs, ports),
            *(_service(name, programs, config, services[name]) for name in SERVICES),
            Part(
                name="envoy",
                stage=3,
                command=(
                    *(programs.envoy, "-c", f"{config}/envoy.yaml", "--use-dynamic-base-id"),
                    *("--concurrency", "2", "--log-level", "warning"),
                ),
                address=gateway,
                probe=Probe(url=f"http://{HOST}:{ports['envoy admin']}/ready"),
            ),
        ),
        files=files,
        fixed_ports={"gateway": options.port, "console": options.console_port},
        gateway=f"http://{gateway}",
        console=f"http://{console}",
        answer_probe=Probe(url=f"http://{gateway}/v1/models") if options.engines else None,
    )


def _stores(programs: Programs, config: str, ports: Mapping[str, int]) -> tuple[Part, Part]:
    nats = Part(
        name="nats",
        stage=1,
        command=(programs.nats_server, "-c", f"{config}/nats.conf"),
        address=f"{HOST}:{ports['nats']}",
        probe=Probe(url=f"http://{HOST}:{ports['nats monitor']}/healthz"),
    )
    redis = Part(
        name="redis",
        stage=1,
        command=(programs.redis_server, f"{config}/redis.conf"),
        address=f"{HOST}:{ports['redis']}",
        probe=Probe(url=f"redis://{HOST}:{ports['redis']}"),
    )
    return nats, redis


def _engines(
    options: StackOptions, programs: Programs, ports: Mapping[str, int]
) -> tuple[Part, ...]:
    def engine(number: int) -> Part:
        port = ports[f"engine-{number}"]
        return Part(
            name=f"engine-{number}",
            stage=1,
            command=(
                *(programs.python, "-m", "pointsman_simulator"),
                *("--host", HOST, "--port", str(port), "--profile", options.profile),
                *("--model", sample_pool.MODEL, "--lora", sample_pool.LORA),
                *("--seed", str(number)),
            ),
            address=f"{HOST}:{port}",
            probe=Probe(url=f"http://{HOST}:{port}/health"),
        )

    return tuple(engine(number) for number in range(1, options.engines + 1))


def _service(name: str, programs: Programs, config: str, settings: Mapping[str, Any]) -> Part:
    module = f"pointsman_{name.replace('-', '_')}"
    return Part(
        name=name,
        stage=2,
        command=(programs.python, "-m", module, "--config", f"{config}/{name}.yaml"),
        address=settings["admin_address"],
        probe=Probe(url=f"http://{settings['admin_address']}/readyz"),
    )


def _service_settings(
    options: StackOptions, folders: Folders, manifests: str, ports: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    def common(name: str) -> dict[str, Any]:
        return {
            "bus_url": f"nats://{HOST}:{ports['nats']}",
            "datalayer_url": _socket(folders, "datalayer"),
            "listen_address": _socket(folders, name),
            "admin_address": f"{HOST}:{ports[f'{name} admin']}",
            "drain_s": DRAIN_S,
        }

    datalayer = {
        "bus_url": f"nats://{HOST}:{ports['nats']}",
        "redis_url": f"redis://{HOST}:{ports['redis']}/0",
        "manifests_path": manifests,
        "envoy_eds_path": _endpoints_path(folders),
        "listen_address": _socket(folders, "datalayer"),
        "admin_address": f"{HOST}:{options.console_port}",
        "drain_s": DRAIN_S,
    }
    edge = {
        **common("ext-proc"),
        "pool": folders.pool,
        "health_address": f"{HOST}:{ports['ext-proc health']}",
        "router_url": _socket(folders, "router"),
        "flow_controller_url": _socket(folders, "flow-controller"),
        "scheduler_url": _socket(folders, "scheduler"),
        "completion_signal": str(options.completion_signal),
    }
    layers = {name: common(name) for name in ("router", "flow-controller", "scheduler")}
    return {"datalayer": datalayer, **layers, "ext-proc": edge}


def _envoy_plan(options: StackOptions, folders: Folders, ports: Mapping[str, int]) -> EnvoyPlan:
    return EnvoyPlan(
        listen_address=f"{HOST}:{options.port}",
        admin_address=f"{HOST}:{ports['envoy admin']}",
        edge_addresses=(_socket(folders, "ext-proc"),),
        endpoints_path=_endpoints_path(folders),
        response_mode=options.response_mode,
        completion_signal=options.completion_signal,
    )


def _socket(folders: Folders, name: str) -> str:
    return f"unix://{folders.sockets}/{name}.sock"


def _endpoints_path(folders: Folders) -> str:
    return f"{folders.run}/envoy/endpoints.json"
