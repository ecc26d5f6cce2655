from pointsman_common.contracts import layer_pb2 as _layer_pb2
from pointsman_common.contracts import pool_pb2 as _pool_pb2
from pointsman_common.contracts import routing_pb2 as _routing_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PickRequest(_message.Message):
    __slots__ = ("descriptor", "lease_id", "candidates", "want_scores")
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    WANT_SCORES_FIELD_NUMBER: _ClassVar[int]
    descriptor: _routing_pb2.RequestDescriptor
    lease_id: str
    candidates: _containers.RepeatedCompositeFieldContainer[_pool_pb2.Endpoint]
    want_scores: bool
    def __init__(self, descriptor: _Optional[_Union[_routing_pb2.RequestDescriptor, _Mapping]] = ..., lease_id: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[_pool_pb2.Endpoint, _Mapping]]] = ..., want_scores: _Optional[bool] = ...) -> None: ...

class PickedEndpoint(_message.Message):
    __slots__ = ("uid", "address")
    UID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    uid: str
    address: str
    def __init__(self, uid: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class Picked(_message.Message):
    __slots__ = ("endpoints", "headers", "decision_id", "scores", "cached_tokens", "prefill_tokens", "expected_output_tokens", "predicted_ttft_s", "profile", "response_headers", "prefill")
    class ScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_TTFT_S_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_HEADERS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_FIELD_NUMBER: _ClassVar[int]
    endpoints: _containers.RepeatedCompositeFieldContainer[PickedEndpoint]
    headers: _layer_pb2.HeaderMutation
    decision_id: str
    scores: _containers.ScalarMap[str, float]
    cached_tokens: int
    prefill_tokens: int
    expected_output_tokens: int
    predicted_ttft_s: float
    profile: str
    response_headers: _layer_pb2.HeaderMutation
    prefill: PickedEndpoint
    def __init__(self, endpoints: _Optional[_Iterable[_Union[PickedEndpoint, _Mapping]]] = ..., headers: _Optional[_Union[_layer_pb2.HeaderMutation, _Mapping]] = ..., decision_id: _Optional[str] = ..., scores: _Optional[_Mapping[str, float]] = ..., cached_tokens: _Optional[int] = ..., prefill_tokens: _Optional[int] = ..., expected_output_tokens: _Optional[int] = ..., predicted_ttft_s: _Optional[float] = ..., profile: _Optional[str] = ..., response_headers: _Optional[_Union[_layer_pb2.HeaderMutation, _Mapping]] = ..., prefill: _Optional[_Union[PickedEndpoint, _Mapping]] = ...) -> None: ...

class PickResponse(_message.Message):
    __slots__ = ("picked", "rejection")
    PICKED_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    picked: Picked
    rejection: _layer_pb2.Rejection
    def __init__(self, picked: _Optional[_Union[Picked, _Mapping]] = ..., rejection: _Optional[_Union[_layer_pb2.Rejection, _Mapping]] = ...) -> None: ...

class PluginTrace(_message.Message):
    __slots__ = ("profile", "plugin", "type", "weight", "scores", "kept", "costs_s")
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    PLUGIN_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    COSTS_S_FIELD_NUMBER: _ClassVar[int]
    profile: str
    plugin: str
    type: str
    weight: float
    scores: _containers.RepeatedScalarFieldContainer[float]
    kept: _containers.RepeatedScalarFieldContainer[bool]
    costs_s: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, profile: _Optional[str] = ..., plugin: _Optional[str] = ..., type: _Optional[str] = ..., weight: _Optional[float] = ..., scores: _Optional[_Iterable[float]] = ..., kept: _Optional[_Iterable[bool]] = ..., costs_s: _Optional[_Iterable[float]] = ...) -> None: ...

class CandidateView(_message.Message):
    __slots__ = ("uid", "address", "metrics_age_ms", "waiting_requests", "running_requests", "kv_cache_utilization", "in_flight_requests", "in_flight_tokens", "cached_blocks", "total_score")
    UID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    METRICS_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    WAITING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_UTILIZATION_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SCORE_FIELD_NUMBER: _ClassVar[int]
    uid: str
    address: str
    metrics_age_ms: int
    waiting_requests: int
    running_requests: int
    kv_cache_utilization: float
    in_flight_requests: int
    in_flight_tokens: int
    cached_blocks: int
    total_score: float
    def __init__(self, uid: _Optional[str] = ..., address: _Optional[str] = ..., metrics_age_ms: _Optional[int] = ..., waiting_requests: _Optional[int] = ..., running_requests: _Optional[int] = ..., kv_cache_utilization: _Optional[float] = ..., in_flight_requests: _Optional[int] = ..., in_flight_tokens: _Optional[int] = ..., cached_blocks: _Optional[int] = ..., total_score: _Optional[float] = ...) -> None: ...

class CandidateSet(_message.Message):
    __slots__ = ("hash", "endpoints", "columns")
    HASH_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    hash: str
    endpoints: _containers.RepeatedCompositeFieldContainer[_pool_pb2.Endpoint]
    columns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, hash: _Optional[str] = ..., endpoints: _Optional[_Iterable[_Union[_pool_pb2.Endpoint, _Mapping]]] = ..., columns: _Optional[_Iterable[str]] = ...) -> None: ...

class LoraInputs(_message.Message):
    __slots__ = ("adapter", "active", "waiting")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    active: bytes
    waiting: bytes
    def __init__(self, adapter: _Optional[str] = ..., active: _Optional[bytes] = ..., waiting: _Optional[bytes] = ...) -> None: ...

class DecisionInputs(_message.Message):
    __slots__ = ("candidate_set", "encoding", "columns", "now_s", "fresh_s", "half_life_s", "all_believed", "mean_output_tokens", "loras", "free_lora_slot", "memories", "shown")
    class MemoriesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    CANDIDATE_SET_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    NOW_S_FIELD_NUMBER: _ClassVar[int]
    FRESH_S_FIELD_NUMBER: _ClassVar[int]
    HALF_LIFE_S_FIELD_NUMBER: _ClassVar[int]
    ALL_BELIEVED_FIELD_NUMBER: _ClassVar[int]
    MEAN_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LORAS_FIELD_NUMBER: _ClassVar[int]
    FREE_LORA_SLOT_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    SHOWN_FIELD_NUMBER: _ClassVar[int]
    candidate_set: str
    encoding: str
    columns: bytes
    now_s: float
    fresh_s: float
    half_life_s: float
    all_believed: bool
    mean_output_tokens: float
    loras: _containers.RepeatedCompositeFieldContainer[LoraInputs]
    free_lora_slot: bytes
    memories: _containers.ScalarMap[str, bytes]
    shown: bytes
    def __init__(self, candidate_set: _Optional[str] = ..., encoding: _Optional[str] = ..., columns: _Optional[bytes] = ..., now_s: _Optional[float] = ..., fresh_s: _Optional[float] = ..., half_life_s: _Optional[float] = ..., all_believed: _Optional[bool] = ..., mean_output_tokens: _Optional[float] = ..., loras: _Optional[_Iterable[_Union[LoraInputs, _Mapping]]] = ..., free_lora_slot: _Optional[bytes] = ..., memories: _Optional[_Mapping[str, bytes]] = ..., shown: _Optional[bytes] = ...) -> None: ...

class DecisionReceipt(_message.Message):
    __slots__ = ("envelope", "decision_id", "lease_id", "descriptor", "candidates", "plugins", "chosen", "rejection", "seed", "config_hash", "state_publisher", "state_sequence", "state_age_ms", "decided_at", "took_us", "reason", "inputs", "candidate_set", "endpoint_picker_config", "further", "profile", "prefill")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    PLUGINS_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CONFIG_HASH_FIELD_NUMBER: _ClassVar[int]
    STATE_PUBLISHER_FIELD_NUMBER: _ClassVar[int]
    STATE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STATE_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_FIELD_NUMBER: _ClassVar[int]
    TOOK_US_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_SET_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_PICKER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    FURTHER_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    PREFILL_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    decision_id: str
    lease_id: str
    descriptor: _routing_pb2.RequestDescriptor
    candidates: _containers.RepeatedCompositeFieldContainer[CandidateView]
    plugins: _containers.RepeatedCompositeFieldContainer[PluginTrace]
    chosen: _containers.RepeatedCompositeFieldContainer[PickedEndpoint]
    rejection: _layer_pb2.Rejection
    seed: int
    config_hash: str
    state_publisher: str
    state_sequence: int
    state_age_ms: int
    decided_at: float
    took_us: int
    reason: str
    inputs: DecisionInputs
    candidate_set: CandidateSet
    endpoint_picker_config: str
    further: _containers.RepeatedCompositeFieldContainer[DecisionReceipt]
    profile: str
    prefill: PickedEndpoint
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., decision_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., descriptor: _Optional[_Union[_routing_pb2.RequestDescriptor, _Mapping]] = ..., candidates: _Optional[_Iterable[_Union[CandidateView, _Mapping]]] = ..., plugins: _Optional[_Iterable[_Union[PluginTrace, _Mapping]]] = ..., chosen: _Optional[_Iterable[_Union[PickedEndpoint, _Mapping]]] = ..., rejection: _Optional[_Union[_layer_pb2.Rejection, _Mapping]] = ..., seed: _Optional[int] = ..., config_hash: _Optional[str] = ..., state_publisher: _Optional[str] = ..., state_sequence: _Optional[int] = ..., state_age_ms: _Optional[int] = ..., decided_at: _Optional[float] = ..., took_us: _Optional[int] = ..., reason: _Optional[str] = ..., inputs: _Optional[_Union[DecisionInputs, _Mapping]] = ..., candidate_set: _Optional[_Union[CandidateSet, _Mapping]] = ..., endpoint_picker_config: _Optional[str] = ..., further: _Optional[_Iterable[_Union[DecisionReceipt, _Mapping]]] = ..., profile: _Optional[str] = ..., prefill: _Optional[_Union[PickedEndpoint, _Mapping]] = ...) -> None: ...
