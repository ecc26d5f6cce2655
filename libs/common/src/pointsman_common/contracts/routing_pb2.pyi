from pointsman_common.contracts import layer_pb2 as _layer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RouteRequest(_message.Message):
    __slots__ = ("request_id", "pool", "headers", "body", "bodiless", "subset", "arrived_at")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    BODILESS_FIELD_NUMBER: _ClassVar[int]
    SUBSET_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_AT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    pool: str
    headers: _containers.RepeatedCompositeFieldContainer[_layer_pb2.HeaderValue]
    body: bytes
    bodiless: bool
    subset: EndpointSubset
    arrived_at: float
    def __init__(self, request_id: _Optional[str] = ..., pool: _Optional[str] = ..., headers: _Optional[_Iterable[_Union[_layer_pb2.HeaderValue, _Mapping]]] = ..., body: _Optional[bytes] = ..., bodiless: _Optional[bool] = ..., subset: _Optional[_Union[EndpointSubset, _Mapping]] = ..., arrived_at: _Optional[float] = ...) -> None: ...

class EndpointSubset(_message.Message):
    __slots__ = ("endpoints",)
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    endpoints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, endpoints: _Optional[_Iterable[str]] = ...) -> None: ...

class RequestDescriptor(_message.Message):
    __slots__ = ("request_id", "pool", "model", "target_model", "lora", "priority", "fairness_id", "objective", "prompt_tokens", "max_output_tokens", "stream", "prompt_block_hashes", "block_tokens", "subset", "ttft_slo_ms", "tpot_slo_ms", "body_bytes", "api", "arrived_at", "queue_ttl_ms", "cached_only", "headers", "bodiless", "choices")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODEL_FIELD_NUMBER: _ClassVar[int]
    LORA_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    FAIRNESS_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    PROMPT_BLOCK_HASHES_FIELD_NUMBER: _ClassVar[int]
    BLOCK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SUBSET_FIELD_NUMBER: _ClassVar[int]
    TTFT_SLO_MS_FIELD_NUMBER: _ClassVar[int]
    TPOT_SLO_MS_FIELD_NUMBER: _ClassVar[int]
    BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_AT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TTL_MS_FIELD_NUMBER: _ClassVar[int]
    CACHED_ONLY_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    BODILESS_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    pool: str
    model: str
    target_model: str
    lora: str
    priority: int
    fairness_id: str
    objective: str
    prompt_tokens: int
    max_output_tokens: int
    stream: bool
    prompt_block_hashes: bytes
    block_tokens: int
    subset: EndpointSubset
    ttft_slo_ms: int
    tpot_slo_ms: int
    body_bytes: int
    api: str
    arrived_at: float
    queue_ttl_ms: int
    cached_only: bool
    headers: _containers.ScalarMap[str, str]
    bodiless: bool
    choices: int
    def __init__(self, request_id: _Optional[str] = ..., pool: _Optional[str] = ..., model: _Optional[str] = ..., target_model: _Optional[str] = ..., lora: _Optional[str] = ..., priority: _Optional[int] = ..., fairness_id: _Optional[str] = ..., objective: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., stream: _Optional[bool] = ..., prompt_block_hashes: _Optional[bytes] = ..., block_tokens: _Optional[int] = ..., subset: _Optional[_Union[EndpointSubset, _Mapping]] = ..., ttft_slo_ms: _Optional[int] = ..., tpot_slo_ms: _Optional[int] = ..., body_bytes: _Optional[int] = ..., api: _Optional[str] = ..., arrived_at: _Optional[float] = ..., queue_ttl_ms: _Optional[int] = ..., cached_only: _Optional[bool] = ..., headers: _Optional[_Mapping[str, str]] = ..., bodiless: _Optional[bool] = ..., choices: _Optional[int] = ...) -> None: ...

class Splice(_message.Message):
    __slots__ = ("offset", "removed", "inserted")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    INSERTED_FIELD_NUMBER: _ClassVar[int]
    offset: int
    removed: int
    inserted: bytes
    def __init__(self, offset: _Optional[int] = ..., removed: _Optional[int] = ..., inserted: _Optional[bytes] = ...) -> None: ...

class BodyPatch(_message.Message):
    __slots__ = ("splices", "replacement")
    SPLICES_FIELD_NUMBER: _ClassVar[int]
    REPLACEMENT_FIELD_NUMBER: _ClassVar[int]
    splices: SpliceList
    replacement: bytes
    def __init__(self, splices: _Optional[_Union[SpliceList, _Mapping]] = ..., replacement: _Optional[bytes] = ...) -> None: ...

class SpliceList(_message.Message):
    __slots__ = ("splices",)
    SPLICES_FIELD_NUMBER: _ClassVar[int]
    splices: _containers.RepeatedCompositeFieldContainer[Splice]
    def __init__(self, splices: _Optional[_Iterable[_Union[Splice, _Mapping]]] = ...) -> None: ...

class Routed(_message.Message):
    __slots__ = ("descriptor", "body_patch", "headers", "wants_usage", "model_in_answer")
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    BODY_PATCH_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    WANTS_USAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_IN_ANSWER_FIELD_NUMBER: _ClassVar[int]
    descriptor: RequestDescriptor
    body_patch: BodyPatch
    headers: _layer_pb2.HeaderMutation
    wants_usage: bool
    model_in_answer: str
    def __init__(self, descriptor: _Optional[_Union[RequestDescriptor, _Mapping]] = ..., body_patch: _Optional[_Union[BodyPatch, _Mapping]] = ..., headers: _Optional[_Union[_layer_pb2.HeaderMutation, _Mapping]] = ..., wants_usage: _Optional[bool] = ..., model_in_answer: _Optional[str] = ...) -> None: ...

class RouteResponse(_message.Message):
    __slots__ = ("routed", "rejection")
    ROUTED_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    routed: Routed
    rejection: _layer_pb2.Rejection
    def __init__(self, routed: _Optional[_Union[Routed, _Mapping]] = ..., rejection: _Optional[_Union[_layer_pb2.Rejection, _Mapping]] = ...) -> None: ...
