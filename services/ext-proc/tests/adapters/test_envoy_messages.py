"""Our messages against an independent codec of Envoy's protos (betterproto)."""

from typing import Any

import pytest
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.data.accesslog import v3 as entries
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as filters
from envoy_data_plane.envoy.service.accesslog import v3 as logs
from envoy_data_plane.envoy.service.ext_proc import v3 as other
from envoy_data_plane.google.protobuf import ListValue, Struct, Value

from pointsman_ext_proc.adapters.envoy_messages import (
    ENCODERS,
    UnreadableMessageError,
    decode,
    decode_access_log,
    encode_refusal,
)
from pointsman_ext_proc.adapters.immediate_response import ImmediateAnswer
from pointsman_ext_proc.core import exchange_events as events
from pointsman_ext_proc.core.logged_end import LoggedEnd

MODES = filters.ProcessingModeBodySendMode
OVERWRITE = core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


def headers(*pairs: tuple[str, bytes]) -> other.HttpHeaders:
    values = [core.HeaderValue(key=name, raw_value=value) for name, value in pairs]
    return other.HttpHeaders(headers=core.HeaderMap(headers=values))


def metadata(namespace: str, key: str, value: Value) -> core.Metadata:
    return core.Metadata(filter_metadata={namespace: Struct(fields={key: value})})


def text(value: str) -> Value:
    return Value(string_value=value)


def subset_of(*items: Value) -> core.Metadata:
    listed = Value(list_value=ListValue(values=list(items)))
    return metadata("envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset", listed)


def decoded(**fields: Any) -> Any:
    return decode(bytes(other.ProcessingRequest(**fields)), with_modes=True)


def encoded(reply: Any) -> other.ProcessingResponse:
    return other.ProcessingResponse.parse(ENCODERS[type(reply)](reply))


def set_headers(options: list[core.HeaderValueOption]) -> dict[str, bytes]:
    assert all(option.append_action == OVERWRITE for option in options)
    found = [option.header for option in options if option.header is not None]
    assert len(found) == len(options)
    return {item.key: item.raw_value for item in found}


def test_request_headers_come_in_lower_case_from_either_form_of_value() -> None:
    message = headers(("X-Request-Id", b"r\xff1"))
    assert message.headers is not None
    message.headers.headers.append(core.HeaderValue(key="plain", value="v"))
    event = decoded(request_headers=message)
    assert event.headers == (("x-request-id", b"r\xff1"), ("plain", b"v"))
    assert (event.subset, event.end_of_stream) == (None, False)


def test_the_modes_are_read_from_the_first_message_and_have_a_default() -> None:
    config = other.ProtocolConfiguration(
        request_body_mode=MODES.BUFFERED, response_body_mode=MODES.STREAMED
    )
    told = decoded(request_headers=headers(), protocol_config=config)
    assert told.modes == events.Modes(events.BodyMode.BUFFERED, events.BodyMode.STREAMED)
    both = events.BodyMode.FULL_DUPLEX_STREAMED
    assert decoded(request_headers=headers()).modes == events.Modes(both, both)


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (subset_of(text("10.0.0.1:8000"), Value(number_value=5.0)), ("10.0.0.1:8000",)),
        (subset_of(), ()),
        (
            metadata(
                "envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset", text("10.0.0.1")
            ),
            None,
        ),
        (metadata("envoy.lb.subset_hint", "something-else", text("x")), None),
        (metadata("envoy.lb", "x-gateway-destination-endpoint-subset", text("x")), None),
        (None, None),
    ],
)
def test_the_subset_is_a_list_of_strings_on_any_request_message(
    hint: core.Metadata | None, expected: tuple[str, ...] | None
) -> None:
    kinds: list[dict[str, Any]] = [
        {"request_headers": headers()},
        {"request_body": other.HttpBody(body=b"x")},
        {"request_trailers": other.HttpTrailers()},
    ]
    for kind in kinds:
        assert decoded(**kind, metadata_context=hint).subset == expected


def test_bodies_keep_their_bytes_and_their_end() -> None:
    body = other.HttpBody(body=b"\x00\xff", end_of_stream=True)
    assert decoded(request_body=body) == events.RequestBody(b"\x00\xff", True, None)
    assert decoded(response_body=body) == events.ResponseBody(b"\x00\xff", True)


def test_the_served_endpoint_comes_as_metadata_or_as_an_attribute() -> None:
    served = metadata("envoy.lb", "x-gateway-destination-endpoint-served", text("10.0.0.1:8000"))
    attributes = {
        "envoy.filters.http.ext_proc": Struct(fields={"upstream.address": text("10.0.0.2:8000")})
    }
    for fields, expected in (
        ({"metadata_context": served}, "10.0.0.1:8000"),
        ({"attributes": attributes}, "10.0.0.2:8000"),
        ({"metadata_context": served, "attributes": attributes}, "10.0.0.1:8000"),
        ({}, ""),
    ):
        assert decoded(response_headers=headers(), **fields).served == expected


def test_trailers_are_told_apart() -> None:
    assert decoded(response_trailers=other.HttpTrailers()) == events.ResponseTrailers()
    assert decoded(request_trailers=other.HttpTrailers()) == events.RequestTrailers(None)


def test_a_message_without_content_is_unreadable() -> None:
    with pytest.raises(UnreadableMessageError):
        decode(b"", with_modes=False)


def test_the_decision_is_in_the_headers_and_in_the_metadata() -> None:
    reply = encoded(
        events.RoutedHeaders(
            events.HeaderEdit((("x-gateway-destination-endpoint", b"10.0.0.1:8000"),), ("x-gone",)),
            events.DestinationMetadata("10.0.0.1:8000", "lease-1", {"10.0.0.1:8000": 3.8}),
        )
    )
    assert reply.request_headers is not None
    common = reply.request_headers.response
    assert common is not None
    assert common.clear_route_cache
    assert common.header_mutation is not None
    assert set_headers(common.header_mutation.set_headers) == {
        "x-gateway-destination-endpoint": b"10.0.0.1:8000"
    }
    assert common.header_mutation.remove_headers == ["x-gone"]
    assert reply.dynamic_metadata is not None
    told = reply.dynamic_metadata.to_dict()["envoy.lb"]
    assert told == {
        "x-gateway-destination-endpoint": "10.0.0.1:8000",
        "x-pointsman-lease-id": "lease-1",
        "x-gateway-destination-endpoint-scores": {"10.0.0.1:8000": 3.8},
    }


@pytest.mark.parametrize("body", [None, b"changed"])
def test_a_buffered_body_is_answered_with_headers_body_and_metadata(body: bytes | None) -> None:
    reply = encoded(
        events.RoutedBody(
            events.HeaderEdit((("a", b"1"),)), events.DestinationMetadata("e:1", "lease-1"), body
        )
    )
    assert reply.request_body is not None
    common = reply.request_body.response
    assert common is not None
    assert common.header_mutation is not None
    assert set_headers(common.header_mutation.set_headers) == {"a": b"1"}
    if body is None:
        assert common.body_mutation is None
    else:
        assert common.body_mutation is not None
        assert common.body_mutation.body == body
    assert reply.dynamic_metadata is not None
    assert (
        "x-gateway-destination-endpoint-scores" not in reply.dynamic_metadata.to_dict()["envoy.lb"]
    )


def test_pieces_are_streamed_responses_of_their_direction() -> None:
    for reply, name in (
        (events.RequestBodyPiece(b"x", True), "request_body"),
        (events.ResponseBodyPiece(b"x", True), "response_body"),
    ):
        streamed = getattr(encoded(reply), name).response.body_mutation.streamed_response
        assert (streamed.body, streamed.end_of_stream) == (b"x", True)


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (events.ContinueRequestHeaders(), "request_headers"),
        (events.ContinueRequestTrailers(), "request_trailers"),
        (events.AnsweredHeaders(), "response_headers"),
        (events.ContinueResponseBody(), "response_body"),
        (events.ContinueResponseTrailers(), "response_trailers"),
    ],
)
def test_going_on_is_an_answer_of_the_right_kind_without_changes(reply: Any, name: str) -> None:
    message = encoded(reply)
    assert getattr(message, name) is not None
    assert getattr(getattr(message, name), "response", None) is None


def test_a_replaced_answer_has_its_length_put_right_when_it_is_whole() -> None:
    for whole in (False, True):
        reply = encoded(events.ReplacedResponseBody(b"abc", whole)).response_body
        assert reply is not None
        assert reply.response is not None
        assert reply.response.body_mutation is not None
        assert reply.response.body_mutation.body == b"abc"
        mutation = reply.response.header_mutation
        lengths = {} if mutation is None else set_headers(mutation.set_headers)
        assert lengths == ({"content-length": b"3"} if whole else {})


@pytest.mark.parametrize(("asked", "given"), [(429, 429), (418, 400), (599, 500)])
def test_a_refusal_is_an_immediate_response_with_a_status_that_envoy_knows(
    asked: int, given: int
) -> None:
    raw = encode_refusal(ImmediateAnswer(asked, (("retry-after", b"7"),), b"{}"))
    immediate = other.ProcessingResponse.parse(raw).immediate_response
    assert immediate is not None
    assert immediate.status is not None
    assert immediate.status.code == given
    assert immediate.headers is not None
    assert set_headers(immediate.headers.set_headers) == {"retry-after": b"7"}
    assert immediate.body == b"{}"


def log_of(*made: entries.HttpAccessLogEntry) -> bytes:
    listed = logs.StreamAccessLogsMessageHttpAccessLogEntries(log_entry=list(made))
    return bytes(logs.StreamAccessLogsMessage(http_logs=listed))


def an_entry(address: str = "10.0.0.1", *, flag: str = "") -> entries.HttpAccessLogEntry:
    flags = entries.ResponseFlags()
    if flag:
        setattr(flags, flag, True)
    socket = core.SocketAddress(address=address, port_value=8000)
    return entries.HttpAccessLogEntry(
        common_properties=entries.AccessLogCommon(
            metadata=metadata("envoy.lb", "x-pointsman-lease-id", text("lease-1")),
            upstream_remote_address=core.Address(socket_address=socket),
            response_flags=flags,
        ),
        response=entries.HttpResponseProperties(response_code=200, response_body_bytes=5),
    )


def test_the_access_log_tells_the_ends_of_leased_requests_alone() -> None:
    foreign = entries.HttpAccessLogEntry(common_properties=entries.AccessLogCommon())
    (end,) = decode_access_log(log_of(foreign, an_entry()))
    assert end == LoggedEnd("lease-1", 200, served="10.0.0.1:8000", response_bytes=5)
    (end,) = decode_access_log(log_of(an_entry("fd00::1")))
    assert end.served == "[fd00::1]:8000"


@pytest.mark.parametrize(
    ("flag", "cause"),
    [
        ("upstream_connection_failure", "connection-failed"),
        ("upstream_connection_termination", "connection-failed"),
        ("upstream_remote_reset", "connection-failed"),
        ("downstream_connection_termination", "client-gone"),
        ("response_from_cache_filter", "finished"),
    ],
)
def test_response_flags_become_causes(flag: str, cause: str) -> None:
    (end,) = decode_access_log(log_of(an_entry(flag=flag)))
    assert end.cause == cause
