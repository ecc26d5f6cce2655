"""The shapes of the manifests that are read: the CRDs and the endpoint list, field by field.

Fields, ranges and enums are those of the CRDs (gateway-api-inference-extension api/v1, llm-d-router
apix/v1alpha2). What is not listed here is refused, but for `metadata` and `status`, which an API
server fills with much that does not concern us.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Weight = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
HttpUrl = Annotated[str, msgspec.Meta(pattern=r"^(https?://[^\s]+)?$")]
TcpUrl = Annotated[str, msgspec.Meta(pattern=r"^(tcp://[^\s]+:[0-9]+)?$")]
FailureMode = Literal["FailOpen", "FailClose"]

MAX_POLICY_BYTES = 256 << 10
"""Of one RoutePolicy's spec as JSON."""


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    pass


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: Name
    namespace: Name = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: datetime | None = None


class Manifest(Strict, frozen=True, kw_only=True):
    api_version: str
    kind: str
    metadata: Metadata
    status: dict[str, Any] | None = None


class PoolRef(Strict, frozen=True, kw_only=True):
    group: str = ""
    kind: Literal["InferencePool"] = "InferencePool"
    name: Name


class MatchLabels(Strict, frozen=True, kw_only=True):
    match_labels: Annotated[dict[str, str], msgspec.Meta(min_length=1)]


class PortNumber(Strict, frozen=True, kw_only=True):
    number: Port


class EndpointPickerRef(Strict, frozen=True, kw_only=True):
    group: str = ""
    kind: str = "Service"
    name: Name
    port: PortNumber | None = None
    failure_mode: FailureMode = "FailClose"


class InferencePoolSpec(Strict, frozen=True, kw_only=True):
    selector: MatchLabels
    target_ports: Annotated[tuple[PortNumber, ...], msgspec.Meta(min_length=1, max_length=8)]
    app_protocol: Literal["http", "kubernetes.io/h2c"] = "http"
    endpoint_picker_ref: EndpointPickerRef | None = None


class InferencePoolManifest(Manifest, frozen=True, kw_only=True):
    """inference.networking.k8s.io/v1."""

    spec: InferencePoolSpec


class ExtensionRef(Strict, frozen=True, kw_only=True):
    group: str = ""
    kind: str = "Service"
    name: Name
    port_number: Port | None = None
    failure_mode: FailureMode = "FailClose"


class AlphaInferencePoolSpec(Strict, frozen=True, kw_only=True):
    selector: Annotated[dict[str, str], msgspec.Meta(min_length=1)]
    target_port_number: Port
    extension_ref: ExtensionRef | None = None


class AlphaInferencePoolManifest(Manifest, frozen=True, kw_only=True):
    """inference.networking.x-k8s.io/v1alpha2."""

    spec: AlphaInferencePoolSpec


class InferenceObjectiveSpec(Strict, frozen=True, kw_only=True):
    pool_ref: PoolRef
    priority: Int32 = 0


class InferenceObjectiveManifest(Manifest, frozen=True, kw_only=True):
    spec: InferenceObjectiveSpec


class ModelMatch(Strict, frozen=True, kw_only=True):
    type: Literal["Exact"] = "Exact"
    value: ModelName


class RewriteMatch(Strict, frozen=True, kw_only=True):
    model: ModelMatch


class RewriteTarget(Strict, frozen=True, kw_only=True):
    model_rewrite: ModelName
    weight: Weight | None = None


class RewriteRule(Strict, frozen=True, kw_only=True):
    matches: tuple[RewriteMatch, ...] = ()
    """One suffices; none: every model."""
    targets: Annotated[tuple[RewriteTarget, ...], msgspec.Meta(min_length=1)]


class InferenceModelRewriteSpec(Strict, frozen=True, kw_only=True):
    pool_ref: PoolRef
    rules: Annotated[tuple[RewriteRule, ...], msgspec.Meta(min_length=1)]


class InferenceModelRewriteManifest(Manifest, frozen=True, kw_only=True):
    spec: InferenceModelRewriteSpec


class TargetModel(Strict, frozen=True, kw_only=True):
    name: Name
    weight: Weight | None = None


class InferenceModelSpec(Strict, frozen=True, kw_only=True):
    model_name: ModelName
    criticality: Literal["Critical", "Standard", "Sheddable"] = "Standard"
    target_models: Annotated[tuple[TargetModel, ...], msgspec.Meta(max_length=10)] = ()
    pool_ref: PoolRef


class InferenceModelManifest(Manifest, frozen=True, kw_only=True):
    spec: InferenceModelSpec


class RoutePolicyManifest(Manifest, frozen=True, kw_only=True):
    """Rules of the routing layer, kept as they were written: the router checks them."""

    spec: dict[str, Any]

    def __post_init__(self) -> None:
        msgspec.convert(self.spec, _NamesItsPool)
        size = len(msgspec.json.encode(self.spec))
        if size > MAX_POLICY_BYTES:
            raise ValueError(f"the spec has {size} bytes, more than {MAX_POLICY_BYTES}")

    @property
    def pool_ref(self) -> PoolRef:
        return msgspec.convert(self.spec, _NamesItsPool).pool_ref


class _NamesItsPool(msgspec.Struct, frozen=True, rename="camel"):
    pool_ref: PoolRef


class ListedEndpoint(Strict, frozen=True, kw_only=True):
    """An entry of upstream's file discovery; what follows `labels` is ours."""

    name: Name
    namespace: Name = "default"
    address: Name
    """An IP, or a host name that is resolved again and again."""
    port: Port | str | None = None
    """Absent: every target port of the pool is an endpoint."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    metrics_url: HttpUrl = ""
    """Where its metrics are, when not under its address: behind a sidecar, or in a test."""
    kv_events_url: TcpUrl = ""
    """Where it publishes its KV events, when not where the settings say."""
    kv_replay_url: TcpUrl = ""
    """Where it repeats them."""


class EndpointList(Strict, frozen=True, kw_only=True):
    endpoints: tuple[ListedEndpoint, ...]


ManifestOfAPool = (
    InferenceObjectiveManifest
    | InferenceModelRewriteManifest
    | InferenceModelManifest
    | RoutePolicyManifest
)
"""Kinds that name their pool in `spec.poolRef`."""


def pool_named_by(manifest: ManifestOfAPool) -> str:
    """The pool that a manifest belongs to, which is of its own namespace."""
    ref = manifest.pool_ref if isinstance(manifest, RoutePolicyManifest) else manifest.spec.pool_ref
    return f"{manifest.metadata.namespace}/{ref.name}"


GROUP = "llm-d.ai"
OLD_GROUP = "inference.networking.x-k8s.io"
POOL_GROUP = "inference.networking.k8s.io"
OUR_GROUP = "pointsman.dev"

KINDS: dict[tuple[str, str], type[Manifest]] = {
    (f"{POOL_GROUP}/v1", "InferencePool"): InferencePoolManifest,
    (f"{OLD_GROUP}/v1alpha2", "InferencePool"): AlphaInferencePoolManifest,
    (f"{GROUP}/v1alpha2", "InferenceObjective"): InferenceObjectiveManifest,
    (f"{OLD_GROUP}/v1alpha2", "InferenceObjective"): InferenceObjectiveManifest,
    (f"{GROUP}/v1alpha2", "InferenceModelRewrite"): InferenceModelRewriteManifest,
    (f"{OLD_GROUP}/v1alpha2", "InferenceModelRewrite"): InferenceModelRewriteManifest,
    (f"{OLD_GROUP}/v1alpha2", "InferenceModel"): InferenceModelManifest,
    (f"{OUR_GROUP}/v1alpha1", "RoutePolicy"): RoutePolicyManifest,
}
"""By apiVersion and kind. EndpointPickerConfig is read by libs/common."""


def group_of(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def split_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
