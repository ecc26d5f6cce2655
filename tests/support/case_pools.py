"""One pool a case: its endpoints, their state and its configuration, as manifests.

The whole stack runs once; each case has a pool of its own, so that no case sees another's load or
cached prefixes. Endpoints are `10.0.0.<i>:8000` as the cases have them; where their metrics are
scraped is said apart from where they serve.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from support.metrics_target import EngineState, MetricsTarget

T = TypeVar("T", bound=Callable[..., Any])


@dataclass
class Engine:
    """One endpoint of a case: `(queue, kv, active LoRAs)`, as the cases write it."""

    waiting: int = 0
    kv: float = 0.0
    loras: tuple[str, ...] = ()
    waiting_loras: tuple[str, ...] = ()
    max_loras: int = 4
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    """Of the pool, where the case is about ports; the states below are then by port."""
    engine: str = "vllm"
    omit: tuple[str, ...] = ()
    by_port: Mapping[int, int] = field(default_factory=dict)
    """Queue by port."""


@dataclass
class CasePool:
    name: str
    config: str
    engines: list[Engine]
    objects: list[dict[str, Any]]
    ports: tuple[int, ...] = (8000,)

    @property
    def full_name(self) -> str:
        return f"default/{self.name}"


POOLS: dict[str, CasePool] = {}


def case(
    number: int,
    *,
    config: str,
    engines: tuple[Engine, ...] = (),
    objects: tuple[dict[str, Any], ...] = (),
    ports: tuple[int, ...] = (8000,),
    differs: str = "",
) -> Callable[[T], T]:
    """Say which case a test is, what its pool is, and how Pointsman differs on purpose."""
    name = f"case-{number}"

    def wrap(test: T) -> T:
        POOLS[name] = CasePool(name, config, list(engines), list(objects), ports)
        test.case_differs = differs  # type: ignore[attr-defined]  # for who reads a failure
        test.case_pool = name  # type: ignore[attr-defined]  # read by the `pool` fixture
        return test

    return wrap


def state_key(pool: str, index: int, port: int) -> str:
    return f"{pool}/{index}/{port}"


def write_manifests(folder: Path, target: MetricsTarget) -> None:
    """All pools into one folder, and their engines' states into the metrics target."""
    documents: list[dict[str, Any]] = []
    endpoints: list[dict[str, Any]] = []
    for pool in POOLS.values():
        documents.extend(_pool_documents(pool))
        endpoints.extend(endpoint_entries(pool, target))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pools.yaml").write_text(yaml.safe_dump_all(documents, sort_keys=False))
    (folder / "endpoints.yaml").write_text(yaml.safe_dump({"endpoints": endpoints}))


def endpoint_entries(pool: CasePool, target: MetricsTarget) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for index, engine in enumerate(pool.engines, start=1):
        for port in engine.ports or pool.ports:
            key = state_key(pool.name, index, port)
            target.states.setdefault(
                key,
                EngineState(
                    waiting=engine.by_port.get(port, engine.waiting),
                    kv=engine.kv,
                    loras=engine.loras,
                    waiting_loras=engine.waiting_loras,
                    max_loras=engine.max_loras,
                    engine=engine.engine,
                    omit=engine.omit,
                ),
            )
            entries.append(
                {
                    "name": f"{pool.name}-{index}-{port}",
                    "namespace": "default",
                    "uid": f"{pool.name}-{index}-{port}",
                    "address": f"10.0.0.{index}",
                    "port": port,
                    "labels": {"case": pool.name, **engine.labels},
                    "metricsUrl": target.url(key),
                }
            )
    return entries


def _pool_documents(pool: CasePool) -> list[dict[str, Any]]:
    reference = {"name": pool.name}
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": {"name": pool.name, "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": {"case": pool.name}},
                "targetPorts": [{"number": port} for port in pool.ports],
                "endpointPickerRef": {"name": "pointsman", "port": {"number": 9002}},
            },
        }
    ]
    for spec in pool.objects:
        document = {**spec, "spec": {**spec["spec"], "poolRef": reference}}
        documents.append(document)
    if pool.config:
        config = yaml.safe_load(pool.config)
        config["metadata"] = {
            "name": pool.name,
            "annotations": {"pointsman.dev/pool": pool.full_name},
        }
        documents.append(config)
    return documents


def objective(name: str, priority: int) -> dict[str, Any]:
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"priority": priority},
    }


def rewrite(name: str, *rules: dict[str, Any], created: str = "") -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "default"}
    if created:
        metadata["creationTimestamp"] = created
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": metadata,
        "spec": {"rules": list(rules)},
    }


def rule(model: str, *targets: tuple[str, int | None]) -> dict[str, Any]:
    return {
        "matches": [{"model": {"type": "Exact", "value": model}}],
        "targets": [
            {"modelRewrite": target, **({} if weight is None else {"weight": weight})}
            for target, weight in targets
        ],
    }


def picker_config(
    plugins: list[str | dict[str, Any]],
    *,
    weights: Mapping[str, float] | None = None,
    profile: bool = True,
    **sections: Any,
) -> str:
    """EndpointPickerConfig as YAML. `plugins` are types, or whole entries."""
    entries = [{"type": item} if isinstance(item, str) else item for item in plugins]
    names = [entry.get("name", entry["type"]) for entry in entries]
    document: dict[str, Any] = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": entries,
    }
    if profile:
        used = [name for name in names if name.endswith(("-scorer", "-picker", "-filter"))]
        document["schedulingProfiles"] = [
            {
                "name": "default",
                "plugins": [
                    {
                        "pluginRef": name,
                        **({"weight": weights[name]} if weights and name in weights else {}),
                    }
                    for name in used
                ],
            }
        ]
    return yaml.safe_dump({**document, **sections}, sort_keys=False)
