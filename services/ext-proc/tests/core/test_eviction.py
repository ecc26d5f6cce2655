"""What an exchange does when a flow controller needs its room, in each of its phases."""

from typing import Any

import pytest

from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.contracts.scheduling_pb2 import Picked
from pointsman_ext_proc.core.eviction import EVICTION
from pointsman_ext_proc.core.exchange import Exchange, ExchangeRules
from pointsman_ext_proc.core.exchange_events import (
    AnswerEnded,
    BodyMode,
    Cancelled,
    Destination,
    Dispatched,
    EndStream,
    Event,
    Evicted,
    LayersAnswered,
    Modes,
    PeerClosed,
    Refusal,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
    Unrouted,
)

SSE = ResponseHeaders(((":status", b"200"), ("content-type", b"text/event-stream")))
JSON = ResponseHeaders(((":status", b"200"), ("content-type", b"application/json")))
SENT = LayersAnswered(
    Dispatched("lease-1", RequestDescriptor(), (Destination("e1", "10.0.0.1:8000"),), Picked())
)
MODES = [mode for mode in BodyMode if mode not in (BodyMode.BUFFERED_PARTIAL, BodyMode.GRPC)]


def asking(mode: BodyMode = BodyMode.FULL_DUPLEX_STREAMED, **rules: Any) -> Exchange:
    exchange = Exchange(ExchangeRules(**rules), new_request_id=lambda: "r1")
    exchange.handle(RequestHeaders((), True, modes=Modes(response=mode)))
    return exchange


def after(exchange: Exchange, *events: Event) -> Exchange:
    for event in events:
        exchange.handle(event)
    return exchange


@pytest.mark.parametrize("mode", MODES)
def test_before_the_answer_it_is_refused_and_nothing_follows(mode: BodyMode) -> None:
    exchange = after(asking(mode), SENT)
    assert not exchange.answered
    ended = AnswerEnded(429, "evicted", 0, None)
    assert exchange.handle(Evicted()) == [ended, Refusal(EVICTION), EndStream()]
    for late in (Evicted(), SSE, ResponseBody(b"x", True), PeerClosed(), Cancelled()):
        assert exchange.handle(late) == []


def test_while_the_layers_are_asked_it_is_refused_without_a_lease() -> None:
    exchange = asking()
    refused = [Unrouted(None, evicted=True), Refusal(EVICTION), EndStream()]
    assert exchange.handle(Evicted()) == refused
    assert exchange.handle(SENT) == []


@pytest.mark.parametrize("mode", [BodyMode.FULL_DUPLEX_STREAMED, BodyMode.STREAMED])
@pytest.mark.parametrize("headers", [SSE, JSON])
def test_an_answer_that_has_begun_is_ended_with_what_it_was(
    mode: BodyMode, headers: ResponseHeaders
) -> None:
    exchange = after(asking(mode), SENT, headers, ResponseBody(b"abc"))
    assert exchange.answered
    ended, *rest = exchange.handle(Evicted())
    assert isinstance(ended, AnswerEnded)
    assert (ended.http_status, ended.cause, ended.response_bytes) == (200, "evicted", 3)
    assert rest == [Refusal(EVICTION), EndStream()]
    assert not exchange.echoes(ResponseBody(b"more"))


def test_an_answer_that_has_ended_or_was_left_to_the_access_log_goes_on() -> None:
    whole = after(asking(), SENT, SSE, ResponseBody(b"abc", True))
    left = after(asking(BodyMode.STREAMED, ends_in_access_log=True), SENT, SSE, ResponseBody(b"a"))
    assert whole.handle(Evicted()) == left.handle(Evicted()) == []
