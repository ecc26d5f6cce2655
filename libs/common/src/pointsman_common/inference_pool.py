"""The configuration of one InferencePool, as every layer sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelTarget:
    model: str
    weight: int = 0
    """0: none was given; then no target of the rule has one, and all are equal."""


@dataclass(frozen=True, slots=True)
class ModelRule:
    """One rule of an InferenceModelRewrite, or an InferenceModel."""

    source: str
    models: frozenset[str]
    """Incoming names, exact; empty: any."""
    targets: tuple[ModelTarget, ...]
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """Rules of the routing layer that belong to a pool; the router checks them."""

    name: str
    spec: str
    """As JSON."""


@dataclass(frozen=True, slots=True)
class InferencePool:
    name: str
    """`<namespace>/<name>`."""
    hash: str = ""
    selector: Mapping[str, str] = field(default_factory=dict)
    target_ports: tuple[int, ...] = ()
    app_protocol: str = "http"
    failure_mode: str = "FailClose"
    objectives: Mapping[str, int] = field(default_factory=dict)
    """Priority by InferenceObjective name."""
    model_rules: tuple[ModelRule, ...] = ()
    """Highest precedence first."""
    endpoint_picker_config: str = ""
    """YAML; empty: each layer uses its own."""
    served_models: frozenset[str] = frozenset()
    """Empty: not known, any model is accepted."""
    lora_adapters: frozenset[str] = frozenset()
    prefix_block_tokens: int = 64
    route_policies: tuple[RoutePolicy, ...] = ()
    """In the order of their names."""
