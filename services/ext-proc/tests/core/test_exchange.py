"""Every message sequence of an exchange, without I/O."""

from typing import Any

import pytest

from pointsman_common.contracts.layer_pb2 import HeaderMutation, HeaderValue, Rejection
from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.contracts.scheduling_pb2 import Picked
from pointsman_ext_proc.core.exchange import Exchange, ExchangeRules
from pointsman_ext_proc.core.exchange_events import (
    Action,
    AnsweredHeaders,
    AnswerEnded,
    BodyMode,
    CallLayers,
    Cancelled,
    ContinueRequestHeaders,
    ContinueRequestTrailers,
    ContinueResponseBody,
    ContinueResponseTrailers,
    Destination,
    Dispatched,
    EndStream,
    Event,
    FirstChunk,
    LayersAnswered,
    LeaseOpened,
    LeaseServed,
    Modes,
    PeerClosed,
    Refusal,
    Refused,
    ReplacedResponseBody,
    RequestBody,
    RequestBodyPiece,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseBodyPiece,
    ResponseHeaders,
    ResponseTrailers,
    RoutedBody,
    RoutedHeaders,
    Unrouted,
    Usage,
)

HEADERS = ((":method", b"POST"), (":path", b"/v1/completions"), ("x-request-id", b"r1"))
JSON = ResponseHeaders(((":status", b"200"), ("content-type", b"application/json")))
SSE = ResponseHeaders(((":status", b"200"), ("content-type", b"text/event-stream")))
FULL = BodyMode.FULL_DUPLEX_STREAMED


def a_decision(*, stream: bool = False, **extra: Any) -> Dispatched:
    values: dict[str, Any] = {
        "lease_id": "lease-1",
        "descriptor": RequestDescriptor(request_id="r1", target_model="t", stream=stream),
        "destinations": (Destination("e1", "10.0.0.1:8000"),),
        "picked": Picked(),
        "wants_usage": True,
    }
    return Dispatched(**(values | extra))


def an_exchange(**rules: Any) -> Exchange:
    return Exchange(ExchangeRules(**rules), new_request_id=lambda: "made-up")


def play(exchange: Exchange, *events: Event) -> list[list[Action]]:
    return [exchange.handle(event) for event in events]


def names(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def routed(
    *, request: BodyMode = FULL, response: BodyMode = FULL, rules: dict[str, Any] | None = None,
    **decision: Any,
) -> Exchange:  # fmt: skip
    """An exchange whose request is on its way."""
    exchange = an_exchange(**(rules or {}))
    play(
        exchange,
        RequestHeaders(HEADERS, modes=Modes(request, response)),
        RequestBody(b"{}", True),
        LayersAnswered(a_decision(**decision)),
    )
    return exchange


# --- requests ---


def test_nothing_is_answered_until_the_body_has_ended_then_everything_in_one_burst() -> None:
    exchange = an_exchange()
    first, second, third, burst = play(
        exchange,
        RequestHeaders(HEADERS),
        RequestBody(b'{"model"'),
        RequestBody(b':"m"}', True),
        LayersAnswered(a_decision()),
    )
    assert first == second == []
    assert third == [CallLayers("r1", HEADERS, b'{"model":"m"}', False, None)]
    assert names(burst) == ["LeaseOpened", "RoutedHeaders", "RequestBodyPiece"]
    assert burst[2] == RequestBodyPiece(b'{"model":"m"}', True)
    headers = burst[1]
    assert isinstance(headers, RoutedHeaders)
    assert headers.edit.set == (
        ("x-gateway-destination-endpoint", b"10.0.0.1:8000"),
        ("Content-Length", b"13"),
    )
    assert headers.metadata.endpoints == "10.0.0.1:8000"
    assert headers.metadata.lease_id == "lease-1"


@pytest.mark.parametrize(
    ("length", "pieces"),
    [(0, [0]), (62_000, [62_000]), (62_001, [62_000, 1]), (125_000, [62_000, 62_000, 1_000])],
)
def test_a_body_goes_out_in_pieces_that_every_gateway_takes(length: int, pieces: list[int]) -> None:
    exchange = an_exchange()
    *_, burst = play(
        exchange,
        RequestHeaders(HEADERS),
        RequestBody(b"x" * length, True),
        LayersAnswered(a_decision()),
    )
    sent = [action for action in burst if isinstance(action, RequestBodyPiece)]
    assert [len(piece.body) for piece in sent] == pieces
    assert [piece.end_of_stream for piece in sent] == [False] * (len(pieces) - 1) + [True]


def test_an_empty_body_sets_no_content_length() -> None:
    *_, burst = play(
        an_exchange(),
        RequestHeaders(HEADERS),
        RequestBody(b"", True),
        LayersAnswered(a_decision()),
    )
    headers = burst[1]
    assert isinstance(headers, RoutedHeaders)
    assert [name for name, _ in headers.edit.set] == ["x-gateway-destination-endpoint"]


def test_trailers_that_end_the_body_are_answered_last_and_no_length_is_set() -> None:
    *_, called, burst = play(
        an_exchange(),
        RequestHeaders(HEADERS),
        RequestBody(b"abc"),
        RequestTrailers(),
        LayersAnswered(a_decision()),
    )
    assert names(called) == ["CallLayers"]
    assert burst[2:] == [RequestBodyPiece(b"abc", False), ContinueRequestTrailers()]
    headers = burst[1]
    assert isinstance(headers, RoutedHeaders)
    assert "Content-Length" not in dict(headers.edit.set)


def test_trailers_after_the_end_of_the_body_get_no_reply() -> None:
    exchange = routed()
    assert exchange.handle(RequestTrailers()) == []


def test_a_bodiless_request_asks_the_layers_at_once_and_gets_headers_alone() -> None:
    called, burst = play(an_exchange(), RequestHeaders(HEADERS, True), LayersAnswered(a_decision()))
    assert called == [CallLayers("r1", HEADERS, b"", True, None)]
    assert names(burst) == ["LeaseOpened", "RoutedHeaders"]


def test_a_body_that_the_gateway_keeps_is_decided_on_by_headers_alone() -> None:
    modes = Modes(BodyMode.NONE, FULL)
    called, burst = play(
        an_exchange(), RequestHeaders(HEADERS, modes=modes), LayersAnswered(a_decision(body=b"x"))
    )
    assert called == [CallLayers("r1", HEADERS, b"", True, None)]
    assert names(burst) == ["LeaseOpened", "RoutedHeaders"]
    headers = burst[1]
    assert isinstance(headers, RoutedHeaders)
    assert "Content-Length" not in dict(headers.edit.set)


@pytest.mark.parametrize("changed", [None, b"longer body"])
def test_a_buffered_body_is_answered_with_the_decision_in_one_message(
    changed: bytes | None,
) -> None:
    modes = Modes(BodyMode.BUFFERED, FULL)
    first, second, answer, trailers = play(
        an_exchange(),
        RequestHeaders(HEADERS, modes=modes),
        RequestBody(b"{}", False),
        LayersAnswered(a_decision(body=changed)),
        RequestTrailers(),
    )
    assert first == [ContinueRequestHeaders()]
    assert names(second) == ["CallLayers"]
    assert names(answer) == ["LeaseOpened", "RoutedBody"]
    routed_body = answer[1]
    assert isinstance(routed_body, RoutedBody)
    assert routed_body.body == changed
    # Envoy refuses a changed body whose length header stays as it was.
    length = dict(routed_body.edit.set).get("Content-Length")
    assert length == (None if changed is None else b"11")
    assert trailers == [ContinueRequestTrailers()]


@pytest.mark.parametrize("mode", [BodyMode.STREAMED, BodyMode.BUFFERED_PARTIAL, BodyMode.GRPC])
def test_a_mode_that_cannot_work_is_refused_by_its_name(mode: BodyMode) -> None:
    (actions,) = play(an_exchange(), RequestHeaders(HEADERS, modes=Modes(mode, FULL)))
    assert names(actions) == ["Unrouted", "Refusal", "EndStream"]
    refusal = actions[1]
    assert isinstance(refusal, Refusal)
    assert refusal.rejection.http_status == 500
    assert f"request_body_mode {mode.name} " in refusal.rejection.message


def test_a_body_past_the_limit_is_413_at_once_and_nothing_follows() -> None:
    exchange = an_exchange(max_body_bytes=10)
    _, fits, over, after, closed = play(
        exchange,
        RequestHeaders(HEADERS),
        RequestBody(b"x" * 10),
        RequestBody(b"x"),
        RequestBody(b"x", True),
        PeerClosed(),
    )
    assert fits == after == closed == []
    assert names(over) == ["Unrouted", "Refusal", "EndStream"]
    refusal = over[1]
    assert isinstance(refusal, Refusal)
    assert (refusal.rejection.http_status, refusal.rejection.code) == (413, "PayloadTooLarge")


def test_a_length_past_the_limit_is_413_before_any_body() -> None:
    headers = (*HEADERS, ("content-length", b"11"))
    (actions,) = play(an_exchange(max_body_bytes=10), RequestHeaders(headers))
    assert names(actions) == ["Unrouted", "Refusal", "EndStream"]


def test_a_request_without_an_id_gets_one_that_goes_everywhere() -> None:
    called, burst = play(
        an_exchange(), RequestHeaders(HEADERS[:2], True), LayersAnswered(a_decision())
    )
    asked = called[0]
    assert isinstance(asked, CallLayers)
    assert asked.request_id == "made-up"
    assert asked.headers[-1] == ("x-request-id", b"made-up")
    headers = burst[1]
    assert isinstance(headers, RoutedHeaders)
    assert dict(headers.edit.set)["x-request-id"] == b"made-up"


@pytest.mark.parametrize(
    "events",
    [
        (RequestHeaders(HEADERS, subset=("a:1",)), RequestBody(b"{}", True)),
        (RequestHeaders(HEADERS), RequestBody(b"{"), RequestBody(b"}", True, ("a:1",))),
        (RequestHeaders(HEADERS), RequestBody(b"{}"), RequestTrailers(("a:1",))),
        (RequestHeaders(HEADERS, subset=("b:1",)), RequestBody(b"{}", True, ("a:1",))),
    ],
)
def test_the_subset_is_honoured_on_any_message(events: tuple[Event, ...]) -> None:
    *_, called = play(an_exchange(), *events)
    asked = called[0]
    assert isinstance(asked, CallLayers)
    assert asked.subset == ("a:1",)


def test_the_subset_can_be_switched_off() -> None:
    (called,) = play(
        an_exchange(honours_subset=False), RequestHeaders(HEADERS, True, subset=("a:1",))
    )
    asked = called[0]
    assert isinstance(asked, CallLayers)
    assert asked.subset is None


def test_a_refusal_ends_the_exchange_and_keeps_what_was_understood() -> None:
    refused = Refused(Rejection(http_status=429, code="ResourceExhausted"), RequestDescriptor())
    exchange = an_exchange()
    *_, actions, later = play(
        exchange, RequestHeaders(HEADERS, True), LayersAnswered(refused), RequestBody(b"x", True)
    )
    assert actions == [Unrouted(refused), Refusal(refused.rejection), EndStream()]
    assert later == []


@pytest.mark.parametrize("end", [PeerClosed(), Cancelled()])
def test_a_client_that_goes_before_the_decision_leaves_no_lease(end: Event) -> None:
    for events in (
        [RequestHeaders(HEADERS)],
        [RequestHeaders(HEADERS), RequestBody(b"{")],
        [RequestHeaders(HEADERS, True)],
    ):
        *_, actions = play(an_exchange(), *events, end)
        assert actions == [Unrouted(None)]


# --- answers ---


def test_buffered_json_is_held_until_its_end_then_sent_whole() -> None:
    exchange = routed()
    body = b'{"usage":{"prompt_tokens":7,"completion_tokens":10}}'
    headers, first, last = play(
        exchange, JSON, ResponseBody(body[:9]), ResponseBody(body[9:], True)
    )
    assert headers == [AnsweredHeaders()]
    assert first == [FirstChunk(False)]
    assert last == [
        AnswerEnded(200, "finished", len(body), Usage(7, 10, None)),
        ResponseBodyPiece(body, True),
    ]


def test_held_json_ends_with_an_empty_last_message() -> None:
    _, first, last = play(routed(), JSON, ResponseBody(b"ab"), ResponseBody(b"", True))
    assert names(first) == ["FirstChunk"]
    assert last[1:] == [ResponseBodyPiece(b"ab", True)]


def test_json_past_the_buffer_is_passed_on_and_no_longer_held() -> None:
    exchange = routed(rules={"max_response_buffer_bytes": 4})
    _, first, second, third, last = play(
        exchange,
        JSON,
        ResponseBody(b"abc"),
        ResponseBody(b"def"),
        ResponseBody(b"ghi"),
        ResponseBody(b"", True),
    )
    assert names(first) == ["FirstChunk"]
    assert second == [ResponseBodyPiece(b"abcdef", False)]
    assert third == [ResponseBodyPiece(b"ghi", False)]
    assert last == [AnswerEnded(200, "finished", 9, None), ResponseBodyPiece(b"", True)]


def test_json_that_nobody_wants_to_read_is_echoed_chunk_by_chunk() -> None:
    _, first, last = play(
        routed(wants_usage=False), JSON, ResponseBody(b"a"), ResponseBody(b"b", True)
    )
    assert first == [FirstChunk(False), ResponseBodyPiece(b"a", False)]
    assert last == [AnswerEnded(200, "finished", 2, None), ResponseBodyPiece(b"b", True)]


def test_events_are_echoed_at_once_and_their_usage_is_counted_once() -> None:
    usage = b'data: {"usage":{"prompt_tokens":7,"completion_tokens":10}}\n\ndata: [DONE]\n\n'
    _, first, second, last = play(
        routed(), SSE, ResponseBody(b"data: {}\n\n"), ResponseBody(usage), ResponseBody(b"", True)
    )
    assert first == [FirstChunk(True), ResponseBodyPiece(b"data: {}\n\n", False)]
    assert second == [ResponseBodyPiece(usage, False)]
    assert last == [
        AnswerEnded(200, "finished", 10 + len(usage), Usage(7, 10, None)),
        ResponseBodyPiece(b"", True),
    ]


def test_a_stream_that_was_asked_for_is_one_whatever_its_content_type() -> None:
    headers = ResponseHeaders(((":status", b"200"),))
    _, first = play(routed(stream=True), headers, ResponseBody(b"x"))
    assert first == [FirstChunk(True), ResponseBodyPiece(b"x", False)]


def test_a_large_chunk_is_cut_and_ends_nothing() -> None:
    _, first, again = play(
        routed(wants_usage=False), SSE, ResponseBody(b"x" * 70_000), ResponseBody(b"x" * 70_000)
    )
    cut = [ResponseBodyPiece(b"x" * 62_000, False), ResponseBodyPiece(b"x" * 8_000, False)]
    assert first == [FirstChunk(True), *cut]
    assert again == cut


@pytest.mark.parametrize("gap", [b"", b" "])
def test_the_model_name_is_restored_in_whole_and_in_cut_answers(gap: bytes) -> None:
    served, asked = b'{"model":' + gap + b'"t","x":1}', b'{"model":' + gap + b'"mine","x":1}'
    _, _, last = play(
        routed(model_in_answer="mine"),
        JSON,
        ResponseBody(served[:10]),
        ResponseBody(served[10:], True),
    )
    assert last[-1] == ResponseBodyPiece(asked, True)
    for cut in range(1, len(served)):
        replies = play(
            routed(model_in_answer="mine"),
            SSE,
            ResponseBody(served[:cut]),
            ResponseBody(served[cut:], True),
        )
        pieces = [
            action for step in replies for action in step if isinstance(action, ResponseBodyPiece)
        ]
        assert b"".join(piece.body for piece in pieces) == asked
        assert [piece.end_of_stream for piece in pieces][-1] is True


def test_response_trailers_come_after_what_was_held() -> None:
    _, _, trailers = play(routed(), JSON, ResponseBody(b"ab"), ResponseTrailers())
    assert trailers == [
        AnswerEnded(200, "finished", 2, None),
        ResponseBodyPiece(b"ab", False),
        ContinueResponseTrailers(),
    ]


def test_an_answer_without_a_body_ends_with_its_headers() -> None:
    headers = ResponseHeaders(((":status", b"204"),), end_of_stream=True)
    (actions,) = play(routed(), headers)
    assert actions == [AnswerEnded(204, "finished", 0, None), AnsweredHeaders()]


def test_streamed_chunks_are_let_through_one_by_one() -> None:
    exchange = routed(response=BodyMode.STREAMED)
    _, first, second, last = play(
        exchange, SSE, ResponseBody(b"a"), ResponseBody(b"b"), ResponseBody(b"", True)
    )
    assert first == [FirstChunk(True), ContinueResponseBody()]
    assert second == [ContinueResponseBody()]
    assert names(last) == ["AnswerEnded", "ContinueResponseBody"]


def test_with_an_access_log_the_stream_is_left_after_the_first_chunk() -> None:
    exchange = routed(response=BodyMode.STREAMED, rules={"ends_in_access_log": True})
    headers, first, after = play(exchange, SSE, ResponseBody(b"a"), Cancelled())
    assert headers == [AnsweredHeaders()]
    assert first == [FirstChunk(True), ContinueResponseBody(), EndStream()]
    assert after == []


def test_with_an_access_log_a_duplex_stream_is_never_left_early() -> None:
    exchange = routed(rules={"ends_in_access_log": True})
    _, first, second = play(exchange, SSE, ResponseBody(b"a"), ResponseBody(b"b"))
    assert "EndStream" not in names(first) + names(second)


def test_with_an_access_log_a_renamed_answer_is_changed_to_its_end() -> None:
    exchange = routed(
        response=BodyMode.STREAMED, rules={"ends_in_access_log": True}, model_in_answer="mine"
    )
    _, first, last = play(exchange, SSE, ResponseBody(b'x"model":"'), ResponseBody(b't"', True))
    assert first == [FirstChunk(True), ReplacedResponseBody(b"x", False)]
    assert last[-1] == ReplacedResponseBody(b'"model":"mine"', False)


def test_with_an_access_log_a_server_error_is_left_to_the_log() -> None:
    exchange = routed(response=BodyMode.STREAMED, rules={"ends_in_access_log": True})
    headers = ResponseHeaders(((":status", b"503"),))
    _, actions = play(exchange, headers, ResponseBody(b"gone", True))
    assert actions == [ContinueResponseBody(), EndStream()]


@pytest.mark.parametrize("end", [PeerClosed(), Cancelled()])
def test_in_none_mode_the_end_of_the_stream_is_the_end_of_the_answer(end: Event) -> None:
    headers, ended = play(routed(response=BodyMode.NONE), SSE, end)
    assert headers == [AnsweredHeaders()]
    assert ended == [AnswerEnded(200, "finished", 0, None)]


def test_a_buffered_answer_is_one_message() -> None:
    body = b'{"model":"t","usage":{"prompt_tokens":1,"completion_tokens":2}}'
    _, actions = play(
        routed(response=BodyMode.BUFFERED, model_in_answer="mine"), JSON, ResponseBody(body, True)
    )
    assert actions == [
        FirstChunk(False),
        AnswerEnded(200, "finished", len(body), Usage(1, 2, None)),
        ReplacedResponseBody(body.replace(b'"t"', b'"mine"'), True),
    ]


def test_an_error_of_the_model_server_has_no_first_token() -> None:
    headers = ResponseHeaders(((":status", b"500"), ("content-type", b"text/plain")))
    _, actions = play(routed(stream=True), headers, ResponseBody(b"boom", True))
    assert actions == [AnswerEnded(500, "finished", 4, None), ResponseBodyPiece(b"boom", True)]


@pytest.mark.parametrize("mode", [FULL, BodyMode.STREAMED])
@pytest.mark.parametrize("end", [PeerClosed(), Cancelled()])
def test_an_answer_cut_short_means_that_the_client_went(mode: BodyMode, end: Event) -> None:
    exchange = routed(response=mode)
    *_, ended, again = play(exchange, SSE, ResponseBody(b"a"), end, end)
    assert ended == [AnswerEnded(200, "client-gone", 1, None)]
    assert again == []


def test_the_reset_that_follows_every_finished_answer_tells_nothing() -> None:
    exchange = routed()
    *_, reset = play(exchange, SSE, ResponseBody(b"a", True), Cancelled())
    assert reset == []


def test_the_served_endpoint_is_told_and_echoed_where_asked() -> None:
    headers = ResponseHeaders(((":status", b"200"),), served="10.0.0.2:8000")
    (plain,) = play(routed(), headers)
    assert plain == [LeaseServed("10.0.0.2:8000"), AnsweredHeaders()]
    (echoed,) = play(routed(rules={"echo_served": True}), headers)
    assert echoed[1] == AnsweredHeaders((("x-conformance-test-served-endpoint", b"10.0.0.2:8000"),))


def test_headers_that_the_scheduler_wants_on_the_answer_are_set() -> None:
    asked = HeaderMutation(
        set=[HeaderValue(key="X-Session-Token", value=b"abc")], remove=["server"]
    )
    (answered,) = play(
        routed(picked=Picked(response_headers=asked)), ResponseHeaders(((":status", b"200"),))
    )
    assert answered == [AnsweredHeaders((("x-session-token", b"abc"),), ("server",))]


def test_an_answer_without_a_request_is_passed_on_and_ends_no_lease() -> None:
    headers, body, closed = play(an_exchange(), JSON, ResponseBody(b"a", True), PeerClosed())
    assert headers == [AnsweredHeaders()]
    assert body == [ResponseBodyPiece(b"a", True)]
    assert closed == [Unrouted(None)]


def test_a_lease_is_opened_before_the_request_is_sent_on() -> None:
    *_, burst = play(an_exchange(), RequestHeaders(HEADERS, True), LayersAnswered(a_decision()))
    assert isinstance(burst[0], LeaseOpened)


def test_scores_are_emitted_only_when_asked() -> None:
    decision = a_decision(picked=Picked(scores={"10.0.0.1:8000": 3.0}))
    for asked, expected in ((False, None), (True, {"10.0.0.1:8000": 3.0})):
        *_, burst = play(
            an_exchange(emit_scores=asked), RequestHeaders(HEADERS, True), LayersAnswered(decision)
        )
        headers = burst[1]
        assert isinstance(headers, RoutedHeaders)
        assert headers.metadata.scores == expected
