from pointsman_common.contracts import layer_pb2 as _layer_pb2
from pointsman_common.contracts import routing_pb2 as _routing_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RuleRequest(_message.Message):
    __slots__ = ("request_id", "pool", "rule", "method", "path", "headers", "api", "model", "objective", "fairness_id", "prompt_tokens", "max_output_tokens", "stream", "last_user_text", "body_text", "body")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    FAIRNESS_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    LAST_USER_TEXT_FIELD_NUMBER: _ClassVar[int]
    BODY_TEXT_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    pool: str
    rule: str
    method: str
    path: str
    headers: _containers.ScalarMap[str, str]
    api: str
    model: str
    objective: str
    fairness_id: str
    prompt_tokens: int
    max_output_tokens: int
    stream: bool
    last_user_text: str
    body_text: str
    body: bytes
    def __init__(self, request_id: _Optional[str] = ..., pool: _Optional[str] = ..., rule: _Optional[str] = ..., method: _Optional[str] = ..., path: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., api: _Optional[str] = ..., model: _Optional[str] = ..., objective: _Optional[str] = ..., fairness_id: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., stream: _Optional[bool] = ..., last_user_text: _Optional[str] = ..., body_text: _Optional[str] = ..., body: _Optional[bytes] = ...) -> None: ...

class RuleChanges(_message.Message):
    __slots__ = ("set", "body_patch", "headers", "model", "fairness_id", "objective")
    class SetEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SET_FIELD_NUMBER: _ClassVar[int]
    BODY_PATCH_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FAIRNESS_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    set: _containers.ScalarMap[str, str]
    body_patch: _routing_pb2.BodyPatch
    headers: _layer_pb2.HeaderMutation
    model: str
    fairness_id: str
    objective: str
    def __init__(self, set: _Optional[_Mapping[str, str]] = ..., body_patch: _Optional[_Union[_routing_pb2.BodyPatch, _Mapping]] = ..., headers: _Optional[_Union[_layer_pb2.HeaderMutation, _Mapping]] = ..., model: _Optional[str] = ..., fairness_id: _Optional[str] = ..., objective: _Optional[str] = ...) -> None: ...

class RuleResponse(_message.Message):
    __slots__ = ("changes", "rejection")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    changes: RuleChanges
    rejection: _layer_pb2.Rejection
    def __init__(self, changes: _Optional[_Union[RuleChanges, _Mapping]] = ..., rejection: _Optional[_Union[_layer_pb2.Rejection, _Mapping]] = ...) -> None: ...
