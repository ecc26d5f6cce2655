"""One HTTP exchange as Envoy tells of it: events in, replies and signals out. No I/O.

    phase      | event                        | next      | out
    -----------+------------------------------+-----------+----------------------------------------
    REQUEST    | request headers, body, trail.| REQUEST   | see request_phase.py
    REQUEST    | Dispatched                   | RESPONSE  | LeaseOpened, then the request's replies
    REQUEST    | Refused                      | OVER      | Unrouted, Refusal, EndStream
    REQUEST    | closed, reset                | OVER      | Unrouted
    REQUEST    | response (the gateway's own) | REQUEST   | passed on
    RESPONSE   | response headers, body, trail| RESPONSE  | see response_phase.py
    RESPONSE   | closed, reset                | OVER      | AnswerEnded, unless it was told before
    not OVER   | evicted                      | OVER      | Unrouted or AnswerEnded, the refusal
    OVER       | any                          | OVER      | –

A lease is opened at most once, and each opened lease is ended exactly once, or left to the access
log. But for an eviction, a refusal is possible only before anything of the request was answered
with a decision. The gateway cuts off an answer that is refused when it has begun.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pointsman_ext_proc.core.eviction import EVICTION
from pointsman_ext_proc.core.exchange_events import (
    Action,
    AnswerEnded,
    Cancelled,
    Dispatched,
    EndStream,
    Event,
    Evicted,
    FirstChunk,
    LayersAnswered,
    LeaseServed,
    PeerClosed,
    Refusal,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Unrouted,
)
from pointsman_ext_proc.core.request_phase import RequestPhase, RequestState
from pointsman_ext_proc.core.response_phase import ResponsePhase

_OF_A_LEASE = (LeaseServed, FirstChunk, AnswerEnded)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRules:
    """See settings.py for each."""

    max_body_bytes: int = 32 << 20
    max_response_buffer_bytes: int = 8 << 20
    ends_in_access_log: bool = False
    honours_subset: bool = True
    emit_scores: bool = False
    echo_served: bool = False


class Exchange:
    def __init__(self, rules: ExchangeRules, *, new_request_id: Callable[[], str]) -> None:
        self._rules = rules
        self._request = RequestPhase(
            max_body_bytes=rules.max_body_bytes,
            emit_scores=rules.emit_scores,
            honours_subset=rules.honours_subset,
            new_request_id=new_request_id,
        )
        self._response: ResponsePhase | None = None
        self._leased = False

    def handle(self, event: Event) -> list[Action]:
        """What to do now, in order."""
        if self._request.state is RequestState.OVER:
            return []
        return self._HANDLERS[type(event)](self, event)

    def echoes(self, event: ResponseBody) -> bool:
        """Whether the chunk goes back as it came, and that is all; else it must be handled."""
        return self._response is not None and self._response.echoes(event)

    @property
    def answered(self) -> bool:
        """Whether the answer of the model server, or of the gateway, has begun."""
        return self._response is not None and self._response.begun

    def _request_headers(self, event: RequestHeaders) -> list[Action]:
        self._response = self._response_phase(event)
        return self._closing(self._request.take_headers(event))

    def _request_body(self, event: RequestBody) -> list[Action]:
        return self._closing(self._request.take_body(event))

    def _request_trailers(self, event: RequestTrailers) -> list[Action]:
        return self._closing(self._request.take_trailers(event))

    def _layers_answered(self, event: LayersAnswered) -> list[Action]:
        actions = self._closing(self._request.take_decision(event.decision))
        if isinstance(event.decision, Dispatched):
            self._leased = True
            self._answer().expect(event.decision)
        return actions

    def _response_headers(self, event: ResponseHeaders) -> list[Action]:
        return self._of_lease(self._answer().take_headers(event))

    def _response_body(self, event: ResponseBody) -> list[Action]:
        actions = self._answer().take_body(event)
        return actions if self._leased else self._of_lease(actions)

    def _response_trailers(self, _: ResponseTrailers) -> list[Action]:
        return self._of_lease(self._answer().take_trailers())

    def _peer_closed(self, _: PeerClosed) -> list[Action]:
        return self._close(reset=False)

    def _cancelled(self, _: Cancelled) -> list[Action]:
        return self._close(reset=True)

    def _evicted(self, _: Evicted) -> list[Action]:
        ended = self._answer().evict() if self._leased else Unrouted(None, evicted=True)
        if ended is None:
            return []
        self._request.state = RequestState.OVER
        return [ended, Refusal(EVICTION), EndStream()]

    def _close(self, *, reset: bool) -> list[Action]:
        if not self._leased:
            self._request.state = RequestState.OVER
            return [Unrouted(None)]
        return self._of_lease(self._answer().close(reset=reset))

    def _answer(self) -> ResponsePhase:
        if self._response is None:  # the gateway does not send request headers here
            self._response = self._response_phase(RequestHeaders(()))
        return self._response

    def _response_phase(self, event: RequestHeaders) -> ResponsePhase:
        return ResponsePhase(
            mode=event.modes.response,
            ends_in_access_log=self._rules.ends_in_access_log,
            max_buffer_bytes=self._rules.max_response_buffer_bytes,
            echo_served=self._rules.echo_served,
        )

    def _of_lease(self, actions: list[Action]) -> list[Action]:
        if self._leased or not actions:
            return actions
        return [action for action in actions if not isinstance(action, _OF_A_LEASE)]

    def _closing(self, actions: list[Action]) -> list[Action]:
        if self._request.state is RequestState.OVER and any(
            isinstance(action, Unrouted) for action in actions
        ):
            actions.append(EndStream())
        return actions

    _HANDLERS: ClassVar[Mapping[type[Any], Callable[[Any, Any], list[Action]]]] = {
        RequestHeaders: _request_headers,
        RequestBody: _request_body,
        RequestTrailers: _request_trailers,
        LayersAnswered: _layers_answered,
        ResponseHeaders: _response_headers,
        ResponseBody: _response_body,
        ResponseTrailers: _response_trailers,
        PeerClosed: _peer_closed,
        Cancelled: _cancelled,
        Evicted: _evicted,
    }
