from pointsman_common.contracts import layer_pb2 as _layer_pb2
from pointsman_common.contracts import routing_pb2 as _routing_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_DISPATCHED: _ClassVar[Outcome]
    OUTCOME_REJECTED_CAPACITY: _ClassVar[Outcome]
    OUTCOME_REJECTED_NO_ENDPOINTS: _ClassVar[Outcome]
    OUTCOME_REJECTED_SATURATED: _ClassVar[Outcome]
    OUTCOME_REJECTED_OTHER: _ClassVar[Outcome]
    OUTCOME_EVICTED_TTL: _ClassVar[Outcome]
    OUTCOME_EVICTED_NO_ENDPOINTS: _ClassVar[Outcome]
    OUTCOME_EVICTED_CONTEXT_CANCELLED: _ClassVar[Outcome]
    OUTCOME_EVICTED_PRIORITY: _ClassVar[Outcome]
    OUTCOME_EVICTED_OTHER: _ClassVar[Outcome]
    OUTCOME_REJECTED_LIMIT: _ClassVar[Outcome]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_DISPATCHED: Outcome
OUTCOME_REJECTED_CAPACITY: Outcome
OUTCOME_REJECTED_NO_ENDPOINTS: Outcome
OUTCOME_REJECTED_SATURATED: Outcome
OUTCOME_REJECTED_OTHER: Outcome
OUTCOME_EVICTED_TTL: Outcome
OUTCOME_EVICTED_NO_ENDPOINTS: Outcome
OUTCOME_EVICTED_CONTEXT_CANCELLED: Outcome
OUTCOME_EVICTED_PRIORITY: Outcome
OUTCOME_EVICTED_OTHER: Outcome
OUTCOME_REJECTED_LIMIT: Outcome

class AdmitRequest(_message.Message):
    __slots__ = ("descriptor", "lease_id", "age_ms")
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    descriptor: _routing_pb2.RequestDescriptor
    lease_id: str
    age_ms: int
    def __init__(self, descriptor: _Optional[_Union[_routing_pb2.RequestDescriptor, _Mapping]] = ..., lease_id: _Optional[str] = ..., age_ms: _Optional[int] = ...) -> None: ...

class Admitted(_message.Message):
    __slots__ = ("queued_ms", "unguarded")
    QUEUED_MS_FIELD_NUMBER: _ClassVar[int]
    UNGUARDED_FIELD_NUMBER: _ClassVar[int]
    queued_ms: int
    unguarded: bool
    def __init__(self, queued_ms: _Optional[int] = ..., unguarded: _Optional[bool] = ...) -> None: ...

class AdmitResponse(_message.Message):
    __slots__ = ("admitted", "rejection", "outcome", "queue_position", "estimated_wait_ms")
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    admitted: Admitted
    rejection: _layer_pb2.Rejection
    outcome: Outcome
    queue_position: int
    estimated_wait_ms: int
    def __init__(self, admitted: _Optional[_Union[Admitted, _Mapping]] = ..., rejection: _Optional[_Union[_layer_pb2.Rejection, _Mapping]] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., queue_position: _Optional[int] = ..., estimated_wait_ms: _Optional[int] = ...) -> None: ...

class FlowStat(_message.Message):
    __slots__ = ("fairness_id", "priority", "queued", "queued_bytes", "dispatched", "left", "oldest_wait_s", "served_tokens", "wait_p50_s", "wait_p99_s")
    class LeftEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    FAIRNESS_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISPATCHED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    OLDEST_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    SERVED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WAIT_P50_S_FIELD_NUMBER: _ClassVar[int]
    WAIT_P99_S_FIELD_NUMBER: _ClassVar[int]
    fairness_id: str
    priority: int
    queued: int
    queued_bytes: int
    dispatched: int
    left: _containers.ScalarMap[str, int]
    oldest_wait_s: float
    served_tokens: int
    wait_p50_s: float
    wait_p99_s: float
    def __init__(self, fairness_id: _Optional[str] = ..., priority: _Optional[int] = ..., queued: _Optional[int] = ..., queued_bytes: _Optional[int] = ..., dispatched: _Optional[int] = ..., left: _Optional[_Mapping[str, int]] = ..., oldest_wait_s: _Optional[float] = ..., served_tokens: _Optional[int] = ..., wait_p50_s: _Optional[float] = ..., wait_p99_s: _Optional[float] = ...) -> None: ...

class BandStat(_message.Message):
    __slots__ = ("priority", "queued", "queued_bytes", "max_queued", "max_queued_bytes", "dispatched", "left", "wait_p50_s", "wait_p99_s")
    class LeftEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISPATCHED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    WAIT_P50_S_FIELD_NUMBER: _ClassVar[int]
    WAIT_P99_S_FIELD_NUMBER: _ClassVar[int]
    priority: int
    queued: int
    queued_bytes: int
    max_queued: int
    max_queued_bytes: int
    dispatched: int
    left: _containers.ScalarMap[str, int]
    wait_p50_s: float
    wait_p99_s: float
    def __init__(self, priority: _Optional[int] = ..., queued: _Optional[int] = ..., queued_bytes: _Optional[int] = ..., max_queued: _Optional[int] = ..., max_queued_bytes: _Optional[int] = ..., dispatched: _Optional[int] = ..., left: _Optional[_Mapping[str, int]] = ..., wait_p50_s: _Optional[float] = ..., wait_p99_s: _Optional[float] = ...) -> None: ...

class FlowStats(_message.Message):
    __slots__ = ("envelope", "pool", "flows", "saturation", "in_flight", "bands", "replicas", "share")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    SATURATION_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    BANDS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    flows: _containers.RepeatedCompositeFieldContainer[FlowStat]
    saturation: float
    in_flight: int
    bands: _containers.RepeatedCompositeFieldContainer[BandStat]
    replicas: int
    share: float
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., flows: _Optional[_Iterable[_Union[FlowStat, _Mapping]]] = ..., saturation: _Optional[float] = ..., in_flight: _Optional[int] = ..., bands: _Optional[_Iterable[_Union[BandStat, _Mapping]]] = ..., replicas: _Optional[int] = ..., share: _Optional[float] = ...) -> None: ...

class FlowShare(_message.Message):
    __slots__ = ("fairness_id", "priority", "queued", "requests", "prompt_tokens", "output_tokens")
    FAIRNESS_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    fairness_id: str
    priority: int
    queued: int
    requests: int
    prompt_tokens: int
    output_tokens: int
    def __init__(self, fairness_id: _Optional[str] = ..., priority: _Optional[int] = ..., queued: _Optional[int] = ..., requests: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ...) -> None: ...

class FlowShares(_message.Message):
    __slots__ = ("envelope", "pool", "flows", "whole", "leaving")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    flows: _containers.RepeatedCompositeFieldContainer[FlowShare]
    whole: bool
    leaving: bool
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., flows: _Optional[_Iterable[_Union[FlowShare, _Mapping]]] = ..., whole: _Optional[bool] = ..., leaving: _Optional[bool] = ...) -> None: ...

class FlowEvictions(_message.Message):
    __slots__ = ("envelope", "pool", "lease_ids")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    LEASE_IDS_FIELD_NUMBER: _ClassVar[int]
    envelope: _layer_pb2.Envelope
    pool: str
    lease_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, envelope: _Optional[_Union[_layer_pb2.Envelope, _Mapping]] = ..., pool: _Optional[str] = ..., lease_ids: _Optional[_Iterable[str]] = ...) -> None: ...
