"""Requests that are gRPC themselves: the frame, and what counts of other projects' messages.

The messages are declared here by field number, as far as they are read; what else they hold is
skipped. Sources: vLLM's vllm_engine.proto (package vllm.grpc.engine), and googleapis'
google/cloud/aiplatform/v1/prediction_service.proto with google/api/httpbody.proto.
"""

import struct
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from pointsman_common.errors import BadRequestError

_FRAME = struct.Struct(">BI")
_PACKAGE = "pointsman.router.read"
_TYPES = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "uint32": descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
}

# Message to (name, number, type); `*` before a type: repeated.
_MESSAGES = {
    "TokenizedInput": (("input_ids", 2, "*uint32"),),
    "SamplingParams": (("max_tokens", 8, "uint32"), ("n", 15, "uint32")),
    "GenerateRequest": (
        ("tokenized", 2, "TokenizedInput"),
        ("text", 3, "string"),
        ("sampling_params", 4, "SamplingParams"),
        ("stream", 5, "bool"),
    ),
    "EmbedRequest": (("tokenized", 2, "TokenizedInput"),),
    "HttpBody": (("data", 2, "bytes"),),
    "PredictRequest": (("http_body", 2, "HttpBody"),),
}


def _declared() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="pointsman/router/read.proto", package=_PACKAGE, syntax="proto3"
    )
    label = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            plain = kind.removeprefix("*")
            added = message.field.add(
                name=field,
                number=number,
                label=label.LABEL_REPEATED if kind != plain else label.LABEL_OPTIONAL,
            )
            if plain in _TYPES:
                added.type = _TYPES[plain]
            else:
                added.type = label.TYPE_MESSAGE
                added.type_name = f".{_PACKAGE}.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _declared()


def read_message(name: str, body: bytes) -> Any:
    """The one message of a unary or server-streaming call.

    Raises:
        BadRequestError: no frame, a compressed or a cut one, or another message.
    """
    if len(body) < _FRAME.size:
        raise BadRequestError("invalid or unsupported gRPC payload")
    compressed, size = _FRAME.unpack_from(body)
    if compressed or len(body) < _FRAME.size + size:
        raise BadRequestError("invalid or unsupported gRPC payload")
    try:
        return _CLASSES[name].FromString(body[_FRAME.size : _FRAME.size + size])
    except DecodeError as error:
        raise BadRequestError(f"the gRPC payload is no {name}") from error
