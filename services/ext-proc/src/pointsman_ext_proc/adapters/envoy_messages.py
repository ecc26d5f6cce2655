"""Envoy's messages to our events, and our replies to Envoy's. The only door to Envoy's types.

Hot path: one parse and one encoding per message; answers without content are encoded once.
"""

from collections.abc import Callable
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc_pb2
from envoy.type.v3 import http_status_pb2
from google.protobuf import struct_pb2

from pointsman_ext_proc.adapters.immediate_response import ImmediateAnswer
from pointsman_ext_proc.core import exchange_events as events
from pointsman_ext_proc.core.endpoint_headers import (
    DESTINATION,
    LEASE_ID,
    METADATA_NAMESPACE,
    SCORES,
    SERVED,
    SUBSET,
    SUBSET_NAMESPACE,
)
from pointsman_ext_proc.core.logged_end import LoggedEnd

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
STREAM_ACCESS_LOGS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
SERVICE_NAME = "envoy.service.ext_proc.v3.ExternalProcessor"

ATTRIBUTES_NAMESPACE = "envoy.filters.http.ext_proc"
UPSTREAM_ADDRESS = "upstream.address"

# The generated modules have no types; ours are those of exchange_events.py.
_ext_proc: Any = ext_proc_pb2
_als: Any = als_pb2
_base: Any = base_pb2
_http_status: Any = http_status_pb2

_KNOWN_STATUSES: frozenset[int] = frozenset(_http_status.StatusCode.values())

_MODES = {mode.value: mode for mode in events.BodyMode}
_OVERWRITE = _base.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


class UnreadableMessageError(Exception):
    """A message without content that this edge knows."""


# --- in ---


def decode(raw: bytes, *, with_modes: bool) -> events.Event:
    """An event of an exchange; `with_modes` for the first message, which tells the modes.

    Raises:
        UnreadableMessageError, google.protobuf.message.DecodeError: not a ProcessingRequest.
    """
    message = _ext_proc.ProcessingRequest.FromString(raw)
    kind = message.WhichOneof("request")
    if kind == "response_body":
        body = message.response_body
        return events.ResponseBody(body.body, body.end_of_stream)
    if kind == "request_body":
        body = message.request_body
        return events.RequestBody(body.body, body.end_of_stream, _subset(message))
    if kind == "request_headers":
        headers = message.request_headers
        return events.RequestHeaders(
            _headers(headers),
            headers.end_of_stream,
            _subset(message),
            _modes(message) if with_modes else events.Modes(),
        )
    if kind == "response_headers":
        headers = message.response_headers
        return events.ResponseHeaders(_headers(headers), headers.end_of_stream, _served(message))
    if kind == "request_trailers":
        return events.RequestTrailers(_subset(message))
    if kind == "response_trailers":
        return events.ResponseTrailers()
    raise UnreadableMessageError("a ProcessingRequest without a known request")


def _headers(message: Any) -> events.Headers:
    # A list first: it is filled faster than a tuple from a generator.
    return tuple(
        [
            (item.key.lower(), item.raw_value or item.value.encode())
            for item in message.headers.headers
        ]
    )


def _modes(message: Any) -> events.Modes:
    if not message.HasField("protocol_config"):
        return events.Modes()
    config = message.protocol_config
    # A mode of a later Envoy is refused by its name, like the other one that is not for HTTP.
    unknown = events.BodyMode.GRPC
    return events.Modes(
        _MODES.get(config.request_body_mode, unknown),
        _MODES.get(config.response_body_mode, unknown),
    )


def _metadata(message: Any, namespace: str, key: str) -> Any:
    """A value of the gateway's metadata, or `None`."""
    if not message.HasField("metadata_context"):
        return None
    spaces = message.metadata_context.filter_metadata
    if namespace not in spaces:
        return None
    fields = spaces[namespace].fields
    # An upb map makes an entry when it is indexed; `get` gives a default message, never None.
    return fields[key] if key in fields else None  # noqa: SIM401


def _subset(message: Any) -> tuple[str, ...] | None:
    value = _metadata(message, SUBSET_NAMESPACE, SUBSET)
    if value is None or value.WhichOneof("kind") != "list_value":
        return None
    return tuple(
        item.string_value
        for item in value.list_value.values
        if item.WhichOneof("kind") == "string_value"
    )


def _served(message: Any) -> str:
    value = _metadata(message, METADATA_NAMESPACE, SERVED)
    if value is not None:
        return str(value.string_value)
    # Envoy itself tells it as an attribute, where `response_attributes` asks for it.
    if ATTRIBUTES_NAMESPACE in message.attributes:
        fields = message.attributes[ATTRIBUTES_NAMESPACE].fields
        if UPSTREAM_ADDRESS in fields:
            return str(fields[UPSTREAM_ADDRESS].string_value)
    return ""


# --- out ---


def _set(options: Any, headers: events.Headers) -> None:
    for name, value in headers:
        option = options.add()
        option.header.key, option.header.raw_value = name, value
        option.append_action = _OVERWRITE


def _edit(common: Any, edit: events.HeaderEdit) -> None:
    common.clear_route_cache = True
    mutation = common.header_mutation
    _set(mutation.set_headers, edit.set)
    mutation.remove_headers.extend(edit.remove)


def _add_metadata(message: Any, metadata: events.DestinationMetadata) -> None:
    fields = message.dynamic_metadata.fields[METADATA_NAMESPACE].struct_value.fields
    fields[DESTINATION].string_value = metadata.endpoints
    fields[LEASE_ID].string_value = metadata.lease_id
    if metadata.scores is not None:
        scores = fields[SCORES].struct_value
        scores.SetInParent()
        for address, score in metadata.scores.items():
            scores.fields[address].number_value = score


def _routed_headers(reply: events.RoutedHeaders) -> bytes:
    message = _ext_proc.ProcessingResponse()
    _edit(message.request_headers.response, reply.edit)
    _add_metadata(message, reply.metadata)
    return _encoded(message)


def _routed_body(reply: events.RoutedBody) -> bytes:
    message = _ext_proc.ProcessingResponse()
    common = message.request_body.response
    _edit(common, reply.edit)
    if reply.body is not None:
        common.body_mutation.body = reply.body
    _add_metadata(message, reply.metadata)
    return _encoded(message)


# Filled anew for each piece: to make the five nested messages costs three times as much.
_a_request_piece = _ext_proc.ProcessingResponse()
_request_piece_body = _a_request_piece.request_body.response.body_mutation.streamed_response
_a_response_piece = _ext_proc.ProcessingResponse()
_response_piece_body = _a_response_piece.response_body.response.body_mutation.streamed_response


def _request_piece(reply: events.RequestBodyPiece) -> bytes:
    piece = _request_piece_body
    piece.body, piece.end_of_stream = reply.body, reply.end_of_stream
    return _encoded(_a_request_piece)


def encode_response_piece(body: bytes, *, ends: bool = False) -> bytes:
    piece = _response_piece_body
    piece.body, piece.end_of_stream = body, ends
    return _encoded(_a_response_piece)


def _answered_headers(reply: events.AnsweredHeaders) -> bytes:
    if not reply.set and not reply.remove:
        return _CONTINUE_RESPONSE_HEADERS
    message = _ext_proc.ProcessingResponse()
    mutation = message.response_headers.response.header_mutation
    _set(mutation.set_headers, reply.set)
    mutation.remove_headers.extend(reply.remove)
    return _encoded(message)


def _response_piece(reply: events.ResponseBodyPiece) -> bytes:
    return encode_response_piece(reply.body, ends=reply.end_of_stream)


def _replaced_body(reply: events.ReplacedResponseBody) -> bytes:
    message = _ext_proc.ProcessingResponse()
    common = message.response_body.response
    common.body_mutation.body = reply.body
    if reply.is_whole:
        length = (("content-length", b"%d" % len(reply.body)),)
        _set(common.header_mutation.set_headers, length)
    return _encoded(message)


def encode_refusal(answer: ImmediateAnswer) -> bytes:
    message = _ext_proc.ProcessingResponse()
    immediate = message.immediate_response
    immediate.status.code = _known_status(answer.http_status)
    immediate.body = answer.body
    _set(immediate.headers.set_headers, answer.headers)
    return _encoded(message)


def _known_status(http_status: int) -> int:
    """Envoy's enum does not hold every number."""
    if http_status in _KNOWN_STATUSES:
        return http_status
    return 400 if http_status < 500 else 500


def _encoded(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


def _constant(**fields: Any) -> bytes:
    return _encoded(_ext_proc.ProcessingResponse(**fields))


_CONTINUE_REQUEST_HEADERS = _constant(request_headers=_ext_proc.HeadersResponse())
_CONTINUE_REQUEST_TRAILERS = _constant(request_trailers=_ext_proc.TrailersResponse())
_CONTINUE_RESPONSE_HEADERS = _constant(response_headers=_ext_proc.HeadersResponse())
_CONTINUE_RESPONSE_BODY = _constant(response_body=_ext_proc.BodyResponse())
_CONTINUE_RESPONSE_TRAILERS = _constant(response_trailers=_ext_proc.TrailersResponse())

ENCODERS: dict[type[Any], Callable[[Any], bytes]] = {
    events.ContinueRequestHeaders: lambda _: _CONTINUE_REQUEST_HEADERS,
    events.RoutedHeaders: _routed_headers,
    events.RoutedBody: _routed_body,
    events.RequestBodyPiece: _request_piece,
    events.ContinueRequestTrailers: lambda _: _CONTINUE_REQUEST_TRAILERS,
    events.AnsweredHeaders: _answered_headers,
    events.ResponseBodyPiece: _response_piece,
    events.ContinueResponseBody: lambda _: _CONTINUE_RESPONSE_BODY,
    events.ReplacedResponseBody: _replaced_body,
    events.ContinueResponseTrailers: lambda _: _CONTINUE_RESPONSE_TRAILERS,
}
"""By the reply's type; a Refusal depends on the error format: see `encode_refusal`."""


# --- the access log ---


def decode_access_log(raw: bytes) -> list[LoggedEnd]:
    """The ends of leased requests in one message of the access log; other entries are left out."""
    message = _als.StreamAccessLogsMessage.FromString(raw)
    ends = (_logged_end(entry) for entry in message.http_logs.log_entry)
    return [end for end in ends if end is not None]


def encode_access_log_response() -> bytes:
    return _encoded(_als.StreamAccessLogsResponse())


def _logged_end(entry: Any) -> LoggedEnd | None:
    common = entry.common_properties
    spaces = common.metadata.filter_metadata
    if METADATA_NAMESPACE not in spaces:
        return None
    fields: struct_pb2.Struct = spaces[METADATA_NAMESPACE]
    if LEASE_ID not in fields.fields:
        return None
    address = common.upstream_remote_address.socket_address
    host = f"[{address.address}]" if ":" in address.address else address.address
    flags = common.response_flags
    return LoggedEnd(
        lease_id=fields.fields[LEASE_ID].string_value,
        http_status=entry.response.response_code.value,
        served=f"{host}:{address.port_value}" if address.address else "",
        response_bytes=entry.response.response_body_bytes,
        duration_s=_seconds(common.duration) or _seconds(common.time_to_last_downstream_tx_byte),
        connect_failed=flags.upstream_connection_failure,
        connection_lost=flags.upstream_connection_termination or flags.upstream_remote_reset,
        client_gone=flags.downstream_connection_termination or flags.downstream_remote_reset,
    )


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)
