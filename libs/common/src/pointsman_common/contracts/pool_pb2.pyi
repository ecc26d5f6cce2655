from pointsman_common.contracts import layer_pb2 as _layer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Scarcity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCARCITY_UNSPECIFIED: _ClassVar[Scarcity]
    SCARCITY_IDLE: _ClassVar[Scarcity]
    SCARCITY_ABUNDANT: _ClassVar[Scarcity]
    SCARCITY_TIGHT: _ClassVar[Scarcity]
    SCARCITY_SCARCE: _ClassVar[Scarcity]
    SCARCITY_SATURATED: _ClassVar[Scarcity]
SCARCITY_UNSPECIFIED: Scarcity
SCARCITY_IDLE: Scarcity
SCARCITY_ABUNDANT: Scarcity
SCARCITY_TIGHT: Scarcity
SCARCITY_SCARCE: Scarcity
SCARCITY_SATURATED: Scarcity

class EndpointMetrics(_message.Message):
    __slots__ = ("waiting_requests", "running_requests", "kv_cache_utilization", "active_loras", "waiting_loras", "max_loras", "block_size_tokens", "kv_cache_blocks", "age_ms", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    WAITING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_UTILIZATION_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_LORAS_FIELD_NUMBER: _ClassVar[int]
    WAITING_LORAS_FIELD_NUMBER: _ClassVar[int]
    MAX_LORAS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SIZE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    waiting_requests: int
    running_requests: int
    kv_cache_utilization: float
    active_loras: _containers.RepeatedScalarFieldContainer[str]
    waiting_loras: _containers.RepeatedScalarFieldContainer[str]
    max_loras: int
    block_size_tokens: int
    kv_cache_blocks: int
    age_ms: int
    attributes: _containers.ScalarMap[str, float]
    def __init__(self, waiting_requests: _Optional[int] = ..., running_requests: _Optional[int] = ..., kv_cache_utilization: _Optional[float] = ..., active_loras: _Optional[_Iterable[str]] = ..., waiting_loras: _Optional[_Iterable[str]] = ..., max_loras: _Optional[int] = ..., block_size_tokens: _Optional[int] = ..., kv_cache_blocks: _Optional[int] = ..., age_ms: _Optional[int] = ..., attributes: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("uid", "name", "address", "labels", "ready", "not_ready_reason", "engine", "rank", "metrics", "epoch")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    UID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_REASON_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    uid: str
    name: str
    address: str
    labels: _containers.ScalarMap[str, str]
    ready: bool
    not_ready_reason: str
    engine: str
    rank: int
    metrics: EndpointMetrics
    epoch: int
    def __init__(self, uid: _Optional[str] = ..., name: _Optional[str] = ..., address: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., ready: _Optional[bool] = ..., not_ready_reason: _Optional[str] = ..., engine: _Optional[str] = ..., rank: _Optional[int] = ..., metrics: _Optional[_Union[EndpointMetrics, _Mapping]] = ..., epoch: _Optional[int] = ...) -> None: ...

class Regime(_message.Message):
    __slots__ = ("scarcity", "reason", "saturation", "ready_endpoints", "stale_endpoints", "waiting_requests", "running_requests", "mean_kv_cache_utilization", "since_s", "recommended_replicas", "recommendation_reason", "utilization", "predicted_ttft_s", "requests_per_s", "queued_requests", "idle_s", "scale_to_zero", "models")
    SCARCITY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SATURATION_FIELD_NUMBER: _ClassVar[int]
    READY_ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    STALE_ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    WAITING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MEAN_KV_CACHE_UTILIZATION_FIELD_NUMBER: _ClassVar[int]
    SINCE_S_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDED_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDATION_REASON_FIELD_NUMBER: _ClassVar[int]
    UTILIZATION_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_TTFT_S_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_S_FIELD_NUMBER: _ClassVar[int]
    QUEUED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    IDLE_S_FIELD_NUMBER: _ClassVar[int]
    SCALE_TO_ZERO_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    scarcity: Scarcity
    reason: str
    saturation: float
    ready_endpoints: int
    stale_endpoints: int
    waiting_requests: int
    running_requests: int
    mean_kv_cache_utilization: float
    since_s: float
    recommended_replicas: int
    recommendation_reason: str
    utilization: float
    predicted_ttft_s: float
    requests_per_s: float
    queued_requests: int
    idle_s: float
    scale_to_zero: bool
    models: _containers.RepeatedCompositeFieldContainer[ModelRegime]
    def __init__(self, scarcity: _Optional[_Union[Scarcity, str]] = ..., reason: _Optional[str] = ..., saturation: _Optional[float] = ..., ready_endpoints: _Optional[int] = ..., stale_endpoints: _Optional[int] = ..., waiting_requests: _Optional[int] = ..., running_requests: _Optional[int] = ..., mean_kv_cache_utilization: _Optional[float] = ..., since_s: _Optional[float] = ..., recommended_replicas: _Optional[int] = ..., recommendation_reason: _Optional[str] = ..., utilization: _Optional[float] = ..., predicted_ttft_s: _Optional[float] = ..., requests_per_s: _Optional[float] = ..., queued_requests: _Optional[int] = ..., idle_s: _Optional[float] = ..., scale_to_zero: _Optional[bool] = ..., models: _Optional[_Iterable[_Union[ModelRegime, _Mapping]]] = ...) -> None: ...

class ModelRegime(_message.Message):
    __slots__ = ("model", "scarcity", "reason", "saturation", "usable_endpoints", "in_flight", "requests_per_s", "utilization_share", "since_s")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCARCITY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SATURATION_FIELD_NUMBER: _ClassVar[int]
    USABLE_ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_S_FIELD_NUMBER: _ClassVar[int]
    UTILIZATION_SHARE_FIELD_NUMBER: _ClassVar[int]
    SINCE_S_FIELD_NUMBER: _ClassVar[int]
    model: str
    scarcity: Scarcity
    reason: str
    saturation: float
    usable_endpoints: int
    in_flight: int
    requests_per_s: float
    utilization_share: float
    since_s: float
    def __init__(self, model: _Optional[str] = ..., scarcity: _Optional[_Union[Scarcity, str]] = ..., reason: _Optional[str] = ..., saturation: _Optional[float] = ..., usable_endpoints: _Optional[int] = ..., in_flight: _Optional[int] = ..., requests_per_s: _Optional[float] = ..., utilization_share: _Optional[float] = ..., since_s: _Optional[float] = ...) -> None: ...

class PoolSnapshot(_message.Message):
    __slots__ = ("envelope", "pool", "endpoints", "regime", "config_hash", "gone")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    REGIME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_HASH_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    regime: Regime
    config_hash: str
    gone: bool
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., regime: _Optional[_Union[Regime, _Mapping]] = ..., config_hash: _Optional[str] = ..., gone: _Optional[bool] = ...) -> None: ...

class PoolDelta(_message.Message):
    __slots__ = ("envelope", "pool", "upserted", "removed", "metrics", "regime")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    UPSERTED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    REGIME_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    upserted: _containers.RepeatedCompositeFieldContainer[Endpoint]
    removed: _containers.RepeatedScalarFieldContainer[str]
    metrics: _containers.RepeatedCompositeFieldContainer[MetricsUpdate]
    regime: Regime
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., upserted: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., removed: _Optional[_Iterable[str]] = ..., metrics: _Optional[_Iterable[_Union[MetricsUpdate, _Mapping]]] = ..., regime: _Optional[_Union[Regime, _Mapping]] = ...) -> None: ...

class MetricsUpdate(_message.Message):
    __slots__ = ("uid", "metrics")
    UID_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    uid: str
    metrics: EndpointMetrics
    def __init__(self, uid: _Optional[str] = ..., metrics: _Optional[_Union[EndpointMetrics, _Mapping]] = ...) -> None: ...

class EndpointReport(_message.Message):
    __slots__ = ("uid", "ready", "not_ready_reason", "problem", "epoch", "metrics")
    UID_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_REASON_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    uid: str
    ready: bool
    not_ready_reason: str
    problem: str
    epoch: int
    metrics: EndpointMetrics
    def __init__(self, uid: _Optional[str] = ..., ready: _Optional[bool] = ..., not_ready_reason: _Optional[str] = ..., problem: _Optional[str] = ..., epoch: _Optional[int] = ..., metrics: _Optional[_Union[EndpointMetrics, _Mapping]] = ...) -> None: ...

class PoolShare(_message.Message):
    __slots__ = ("envelope", "pool", "endpoints")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    endpoints: _containers.RepeatedCompositeFieldContainer[EndpointReport]
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., endpoints: _Optional[_Iterable[_Union[EndpointReport, _Mapping]]] = ...) -> None: ...

class InferenceObjective(_message.Message):
    __slots__ = ("name", "priority")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    name: str
    priority: int
    def __init__(self, name: _Optional[str] = ..., priority: _Optional[int] = ...) -> None: ...

class ModelTarget(_message.Message):
    __slots__ = ("model", "weight")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    model: str
    weight: int
    def __init__(self, model: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class ModelRule(_message.Message):
    __slots__ = ("source", "models", "targets", "priority")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    source: str
    models: _containers.RepeatedScalarFieldContainer[str]
    targets: _containers.RepeatedCompositeFieldContainer[ModelTarget]
    priority: int
    def __init__(self, source: _Optional[str] = ..., models: _Optional[_Iterable[str]] = ..., targets: _Optional[_Iterable[_Union[ModelTarget, _Mapping]]] = ..., priority: _Optional[int] = ...) -> None: ...

class RoutePolicy(_message.Message):
    __slots__ = ("name", "spec")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    name: str
    spec: str
    def __init__(self, name: _Optional[str] = ..., spec: _Optional[str] = ...) -> None: ...

class PoolConfig(_message.Message):
    __slots__ = ("envelope", "pool", "hash", "selector", "target_ports", "app_protocol", "failure_mode", "objectives", "model_rules", "endpoint_picker_config", "served_models", "lora_adapters", "prefix_block_tokens", "route_policies")
    class SelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    TARGET_PORTS_FIELD_NUMBER: _ClassVar[int]
    APP_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FAILURE_MODE_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    MODEL_RULES_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_PICKER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    SERVED_MODELS_FIELD_NUMBER: _ClassVar[int]
    LORA_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_BLOCK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROUTE_POLICIES_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    hash: str
    selector: _containers.ScalarMap[str, str]
    target_ports: _containers.RepeatedScalarFieldContainer[int]
    app_protocol: str
    failure_mode: str
    objectives: _containers.RepeatedCompositeFieldContainer[InferenceObjective]
    model_rules: _containers.RepeatedCompositeFieldContainer[ModelRule]
    endpoint_picker_config: str
    served_models: _containers.RepeatedScalarFieldContainer[str]
    lora_adapters: _containers.RepeatedScalarFieldContainer[str]
    prefix_block_tokens: int
    route_policies: _containers.RepeatedCompositeFieldContainer[RoutePolicy]
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., hash: _Optional[str] = ..., selector: _Optional[_Mapping[str, str]] = ..., target_ports: _Optional[_Iterable[int]] = ..., app_protocol: _Optional[str] = ..., failure_mode: _Optional[str] = ..., objectives: _Optional[_Iterable[_Union[InferenceObjective, _Mapping]]] = ..., model_rules: _Optional[_Iterable[_Union[ModelRule, _Mapping]]] = ..., endpoint_picker_config: _Optional[str] = ..., served_models: _Optional[_Iterable[str]] = ..., lora_adapters: _Optional[_Iterable[str]] = ..., prefix_block_tokens: _Optional[int] = ..., route_policies: _Optional[_Iterable[_Union[RoutePolicy, _Mapping]]] = ...) -> None: ...

class GetSnapshotRequest(_message.Message):
    __slots__ = ("pool",)
    POOL_FIELD_NUMBER: _ClassVar[int]
    pool: str
    def __init__(self, pool: _Optional[str] = ...) -> None: ...

class PoolState(_message.Message):
    __slots__ = ("config", "snapshot")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    config: PoolConfig
    snapshot: PoolSnapshot
    def __init__(self, config: _Optional[_Union[PoolConfig, _Mapping]] = ..., snapshot: _Optional[_Union[PoolSnapshot, _Mapping]] = ...) -> None: ...

class GetSnapshotResponse(_message.Message):
    __slots__ = ("pools",)
    POOLS_FIELD_NUMBER: _ClassVar[int]
    pools: _containers.RepeatedCompositeFieldContainer[PoolState]
    def __init__(self, pools: _Optional[_Iterable[_Union[PoolState, _Mapping]]] = ...) -> None: ...
