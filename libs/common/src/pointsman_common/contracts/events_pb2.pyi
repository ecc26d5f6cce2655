from pointsman_common.contracts import layer_pb2 as _layer_pb2
from pointsman_common.contracts import routing_pb2 as _routing_pb2
from pointsman_common.contracts import scheduling_pb2 as _scheduling_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Lease(_message.Message):
    __slots__ = ("lease_id", "edge", "pool", "endpoint_uid", "endpoint_address", "request_id", "decision_id", "model", "fairness_id", "priority", "prompt_tokens", "prefill_tokens", "expected_output_tokens", "serving", "age_ms", "prefill_endpoint_uid")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    EDGE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_UID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FAIRNESS_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_ENDPOINT_UID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    edge: str
    pool: str
    endpoint_uid: str
    endpoint_address: str
    request_id: str
    decision_id: str
    model: str
    fairness_id: str
    priority: int
    prompt_tokens: int
    prefill_tokens: int
    expected_output_tokens: int
    serving: bool
    age_ms: int
    prefill_endpoint_uid: str
    def __init__(self, lease_id: _Optional[str] = ..., edge: _Optional[str] = ..., pool: _Optional[str] = ..., endpoint_uid: _Optional[str] = ..., endpoint_address: _Optional[str] = ..., request_id: _Optional[str] = ..., decision_id: _Optional[str] = ..., model: _Optional[str] = ..., fairness_id: _Optional[str] = ..., priority: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., prefill_tokens: _Optional[int] = ..., expected_output_tokens: _Optional[int] = ..., serving: _Optional[bool] = ..., age_ms: _Optional[int] = ..., prefill_endpoint_uid: _Optional[str] = ...) -> None: ...

class RequestPicked(_message.Message):
    __slots__ = ("lease", "prompt_block_hashes", "first_block", "block_tokens", "descriptor", "fallbacks", "unscheduled")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_BLOCK_HASHES_FIELD_NUMBER: _ClassVar[int]
    FIRST_BLOCK_FIELD_NUMBER: _ClassVar[int]
    BLOCK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    UNSCHEDULED_FIELD_NUMBER: _ClassVar[int]
    lease: Lease
    prompt_block_hashes: bytes
    first_block: int
    block_tokens: int
    descriptor: _routing_pb2.RequestDescriptor
    fallbacks: _containers.RepeatedCompositeFieldContainer[_scheduling_pb2.PickedEndpoint]
    unscheduled: bool
    def __init__(self, lease: _Optional[_Union[Lease, _Mapping]] = ..., prompt_block_hashes: _Optional[bytes] = ..., first_block: _Optional[int] = ..., block_tokens: _Optional[int] = ..., descriptor: _Optional[_Union[_routing_pb2.RequestDescriptor, _Mapping]] = ..., fallbacks: _Optional[_Iterable[_Union[_scheduling_pb2.PickedEndpoint, _Mapping]]] = ..., unscheduled: _Optional[bool] = ...) -> None: ...

class RequestServing(_message.Message):
    __slots__ = ("lease_id", "endpoint_uid", "endpoint_address", "ttft_ms", "moved")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_UID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TTFT_MS_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    endpoint_uid: str
    endpoint_address: str
    ttft_ms: int
    moved: bool
    def __init__(self, lease_id: _Optional[str] = ..., endpoint_uid: _Optional[str] = ..., endpoint_address: _Optional[str] = ..., ttft_ms: _Optional[int] = ..., moved: _Optional[bool] = ...) -> None: ...

class RequestFinished(_message.Message):
    __slots__ = ("lease_id", "endpoint_uid", "endpoint_address", "http_status", "prompt_tokens", "cached_tokens", "output_tokens", "ttft_ms", "duration_ms", "cause", "model", "fairness_id")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_UID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TTFT_MS_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FAIRNESS_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    endpoint_uid: str
    endpoint_address: str
    http_status: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    ttft_ms: int
    duration_ms: int
    cause: str
    model: str
    fairness_id: str
    def __init__(self, lease_id: _Optional[str] = ..., endpoint_uid: _Optional[str] = ..., endpoint_address: _Optional[str] = ..., http_status: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., ttft_ms: _Optional[int] = ..., duration_ms: _Optional[int] = ..., cause: _Optional[str] = ..., model: _Optional[str] = ..., fairness_id: _Optional[str] = ...) -> None: ...

class RequestEvents(_message.Message):
    __slots__ = ("envelope", "pool", "picked", "serving", "finished", "dropped")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    PICKED_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    picked: _containers.RepeatedCompositeFieldContainer[RequestPicked]
    serving: _containers.RepeatedCompositeFieldContainer[RequestServing]
    finished: _containers.RepeatedCompositeFieldContainer[RequestFinished]
    dropped: int
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., picked: _Optional[_Iterable[_Union[RequestPicked, _Mapping]]] = ..., serving: _Optional[_Iterable[_Union[RequestServing, _Mapping]]] = ..., finished: _Optional[_Iterable[_Union[RequestFinished, _Mapping]]] = ..., dropped: _Optional[int] = ...) -> None: ...

class LeaseQuery(_message.Message):
    __slots__ = ("envelope", "pool", "check")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    check: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., check: _Optional[_Iterable[str]] = ...) -> None: ...

class LeaseSnapshot(_message.Message):
    __slots__ = ("envelope", "pool", "leases", "sequences", "ended")
    class SequencesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    leases: _containers.RepeatedCompositeFieldContainer[Lease]
    sequences: _containers.ScalarMap[str, int]
    ended: _containers.RepeatedCompositeFieldContainer[RequestFinished]
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., leases: _Optional[_Iterable[_Union[Lease, _Mapping]]] = ..., sequences: _Optional[_Mapping[str, int]] = ..., ended: _Optional[_Iterable[_Union[RequestFinished, _Mapping]]] = ...) -> None: ...

class LayerHeartbeat(_message.Message):
    __slots__ = ("envelope", "description", "address", "admin_url", "pools", "draining", "open_leases", "gauges")
    class GaugesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ADMIN_URL_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    OPEN_LEASES_FIELD_NUMBER: _ClassVar[int]
    GAUGES_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    description: _layer_pb2.DescribeResponse
    address: str
    admin_url: str
    pools: _containers.RepeatedScalarFieldContainer[str]
    draining: bool
    open_leases: int
    gauges: _containers.ScalarMap[str, float]
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., description: _Optional[_Union[_layer_pb2.DescribeResponse, _Mapping]] = ..., address: _Optional[str] = ..., admin_url: _Optional[str] = ..., pools: _Optional[_Iterable[str]] = ..., draining: _Optional[bool] = ..., open_leases: _Optional[int] = ..., gauges: _Optional[_Mapping[str, float]] = ...) -> None: ...

class KvBlock(_message.Message):
    __slots__ = ("hash", "tier")
    HASH_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    hash: int
    tier: int
    def __init__(self, hash: _Optional[int] = ..., tier: _Optional[int] = ...) -> None: ...

class KvEvents(_message.Message):
    __slots__ = ("envelope", "pool", "endpoint_uid", "engine_sequence", "stored", "removed", "cleared", "chain", "lora", "block_tokens")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_UID_FIELD_NUMBER: _ClassVar[int]
    ENGINE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    CLEARED_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    LORA_FIELD_NUMBER: _ClassVar[int]
    BLOCK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    endpoint_uid: str
    engine_sequence: int
    stored: _containers.RepeatedCompositeFieldContainer[KvBlock]
    removed: _containers.RepeatedScalarFieldContainer[int]
    cleared: bool
    chain: str
    lora: str
    block_tokens: int
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., endpoint_uid: _Optional[str] = ..., engine_sequence: _Optional[int] = ..., stored: _Optional[_Iterable[_Union[KvBlock, _Mapping]]] = ..., removed: _Optional[_Iterable[int]] = ..., cleared: _Optional[bool] = ..., chain: _Optional[str] = ..., lora: _Optional[str] = ..., block_tokens: _Optional[int] = ...) -> None: ...

class PrefixQuery(_message.Message):
    __slots__ = ("envelope", "pool", "of", "endpoint_uid", "older_than", "max_bytes")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_UID_FIELD_NUMBER: _ClassVar[int]
    OLDER_THAN_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    of: str
    endpoint_uid: str
    older_than: int
    max_bytes: int
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., of: _Optional[str] = ..., endpoint_uid: _Optional[str] = ..., older_than: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class PrefixPage(_message.Message):
    __slots__ = ("envelope", "pool", "blocks", "endpoint_uid", "epoch", "prompts", "next")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_UID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    blocks: int
    endpoint_uid: str
    epoch: int
    prompts: _containers.RepeatedScalarFieldContainer[bytes]
    next: int
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., blocks: _Optional[int] = ..., endpoint_uid: _Optional[str] = ..., epoch: _Optional[int] = ..., prompts: _Optional[_Iterable[bytes]] = ..., next: _Optional[int] = ...) -> None: ...

class ShadowReport(_message.Message):
    __slots__ = ("envelope", "pool", "name", "window_s", "decisions", "agreed", "mean_predicted_ttft_s", "mean_predicted_ttft_production_s", "hit_ratio", "hit_ratio_production", "imbalance", "imbalance_production", "refused", "skipped", "skipped_by", "config_hash", "mean_observed_ttft_s", "observed", "missed", "wants_descriptors")
    class SkippedByEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    MEAN_PREDICTED_TTFT_S_FIELD_NUMBER: _ClassVar[int]
    MEAN_PREDICTED_TTFT_PRODUCTION_S_FIELD_NUMBER: _ClassVar[int]
    HIT_RATIO_FIELD_NUMBER: _ClassVar[int]
    HIT_RATIO_PRODUCTION_FIELD_NUMBER: _ClassVar[int]
    IMBALANCE_FIELD_NUMBER: _ClassVar[int]
    IMBALANCE_PRODUCTION_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_BY_FIELD_NUMBER: _ClassVar[int]
    CONFIG_HASH_FIELD_NUMBER: _ClassVar[int]
    MEAN_OBSERVED_TTFT_S_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    WANTS_DESCRIPTORS_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    name: str
    window_s: float
    decisions: int
    agreed: int
    mean_predicted_ttft_s: float
    mean_predicted_ttft_production_s: float
    hit_ratio: float
    hit_ratio_production: float
    imbalance: float
    imbalance_production: float
    refused: int
    skipped: int
    skipped_by: _containers.ScalarMap[str, int]
    config_hash: str
    mean_observed_ttft_s: float
    observed: int
    missed: int
    wants_descriptors: bool
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., name: _Optional[str] = ..., window_s: _Optional[float] = ..., decisions: _Optional[int] = ..., agreed: _Optional[int] = ..., mean_predicted_ttft_s: _Optional[float] = ..., mean_predicted_ttft_production_s: _Optional[float] = ..., hit_ratio: _Optional[float] = ..., hit_ratio_production: _Optional[float] = ..., imbalance: _Optional[float] = ..., imbalance_production: _Optional[float] = ..., refused: _Optional[int] = ..., skipped: _Optional[int] = ..., skipped_by: _Optional[_Mapping[str, int]] = ..., config_hash: _Optional[str] = ..., mean_observed_ttft_s: _Optional[float] = ..., observed: _Optional[int] = ..., missed: _Optional[int] = ..., wants_descriptors: _Optional[bool] = ...) -> None: ...
