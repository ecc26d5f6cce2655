"""The request's half of an exchange: gathers what the layers need, and answers with what they say.

    state      | event                       | next      | out
    -----------+-----------------------------+-----------+------------------------------------------
    NEW        | headers, body follows       | GATHERING | –  (BUFFERED: go on to the body)
    NEW        | headers, no body, or NONE   | DECIDING  | CallLayers
    NEW        | headers, content-length big | OVER      | 413
    NEW        | headers, unsupported mode   | OVER      | 500
    GATHERING  | body, more follows          | GATHERING | –
    GATHERING  | body, its end               | DECIDING  | CallLayers
    GATHERING  | body past the limit         | OVER      | 413
    GATHERING  | trailers                    | DECIDING  | CallLayers
    DECIDING   | Dispatched                  | SENT      | headers and body pieces, in one burst
    DECIDING   | Refused                     | OVER      | the refusal
    SENT       | trailers after the body end | SENT      | –  (BUFFERED: go on)
    SENT, OVER | body                        | same      | –

A BUFFERED body is one message and its end, whatever its end mark says (trailers may follow).
"""

from collections.abc import Callable
from enum import Enum, auto

from pointsman_common.error_mapping import rejection
from pointsman_ext_proc.core.body_pieces import pieces
from pointsman_ext_proc.core.endpoint_headers import (
    REQUEST_ID,
    destination_value,
    header,
    request_edit,
)
from pointsman_ext_proc.core.exchange_events import (
    Action,
    BodyMode,
    CallLayers,
    ContinueRequestHeaders,
    ContinueRequestTrailers,
    DestinationMetadata,
    Dispatched,
    Headers,
    LeaseOpened,
    Refusal,
    Refused,
    RequestBody,
    RequestBodyPiece,
    RequestHeaders,
    RequestTrailers,
    RoutedBody,
    RoutedHeaders,
    Unrouted,
)
from pointsman_ext_proc.core.request_body import RequestBodyBuffer


class RequestState(Enum):
    NEW = auto()
    GATHERING = auto()
    DECIDING = auto()
    SENT = auto()
    OVER = auto()


class RequestPhase:
    def __init__(
        self,
        *,
        max_body_bytes: int,
        emit_scores: bool,
        honours_subset: bool,
        new_request_id: Callable[[], str],
    ) -> None:
        self.state = RequestState.NEW
        self._max_body_bytes, self._emit_scores = max_body_bytes, emit_scores
        self._honours_subset, self._new_request_id = honours_subset, new_request_id
        self._mode = BodyMode.FULL_DUPLEX_STREAMED
        self._headers: Headers = ()
        self._made_up_request_id = ""
        self._subset: tuple[str, ...] | None = None
        self._buffer = RequestBodyBuffer(max_bytes=max_body_bytes)
        self._body = b""
        self._has_body = False
        self._ended_by_trailers = False

    def take_headers(self, event: RequestHeaders) -> list[Action]:
        self._headers, self._mode = event.headers, event.modes.request
        self._note_subset(event.subset)
        if event.end_of_stream or self._mode is BodyMode.NONE:
            return self._decide()
        if self._mode not in (BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED):
            return self._refuse(
                "Internal",
                f"the gateway's request_body_mode {self._mode.name} is not supported:"
                " set FULL_DUPLEX_STREAMED, BUFFERED or NONE",
            )
        length = header(event.headers, "content-length")
        if length is not None and length.isdigit() and int(length) > self._max_body_bytes:
            return self._refuse_size()
        self.state = RequestState.GATHERING
        return [ContinueRequestHeaders()] if self._mode is BodyMode.BUFFERED else []

    def take_body(self, event: RequestBody) -> list[Action]:
        self._note_subset(event.subset)
        if self.state is not RequestState.GATHERING:
            return []
        self._has_body = True
        if not self._buffer.add(event.body):
            return self._refuse_size()
        if event.end_of_stream or self._mode is BodyMode.BUFFERED:
            return self._decide()
        return []

    def take_trailers(self, event: RequestTrailers) -> list[Action]:
        self._note_subset(event.subset)
        if self._mode is not BodyMode.FULL_DUPLEX_STREAMED:
            if self.state is RequestState.GATHERING:
                return self._refuse(
                    "BadRequest", "trailers without a body cannot be routed in BUFFERED mode"
                )
            return [ContinueRequestTrailers()]
        if self.state is not RequestState.GATHERING:
            return []
        self._ended_by_trailers = True
        return self._decide()

    def take_decision(self, decision: Dispatched | Refused) -> list[Action]:
        if isinstance(decision, Refused):
            self.state = RequestState.OVER
            self._body = b""
            return [Unrouted(decision), Refusal(decision.rejection, decision.headers)]
        self.state = RequestState.SENT
        body = self._body if decision.body is None else decision.body
        original, self._body = self._body, b""
        metadata = DestinationMetadata(
            endpoints=destination_value(decision.destinations),
            lease_id=decision.lease_id,
            scores=dict(decision.picked.scores) if self._emit_scores else None,
        )
        opened = LeaseOpened(decision, len(original))
        sends_pieces = self._has_body and self._mode is BodyMode.FULL_DUPLEX_STREAMED
        # A message that ends with trailers is chunked: it may not bear a length as well. Envoy
        # refuses a changed BUFFERED body whose length header is not changed with it.
        changed = self._mode is BodyMode.BUFFERED and decision.body is not None
        known_length = len(body) if changed or (sends_pieces and not self._ended_by_trailers) else 0
        edit = request_edit(
            self._headers,
            decision,
            content_length=known_length,
            made_up_request_id=self._made_up_request_id,
        )
        if self._mode is BodyMode.BUFFERED and self._has_body:
            return [opened, RoutedBody(edit, metadata, decision.body)]
        actions: list[Action] = [opened, RoutedHeaders(edit, metadata)]
        if sends_pieces:
            actions += (
                RequestBodyPiece(piece, end)
                for piece, end in pieces(body, end_of_stream=not self._ended_by_trailers)
            )
        if self._ended_by_trailers:
            actions.append(ContinueRequestTrailers())
        return actions

    def _note_subset(self, subset: tuple[str, ...] | None) -> None:
        # Gateways attach it to any message of the request; the last one counts.
        if subset is not None and self._honours_subset:
            self._subset = subset

    def _decide(self) -> list[Action]:
        self.state = RequestState.DECIDING
        self._body = self._buffer.take()
        request_id = header(self._headers, REQUEST_ID)
        if not request_id:
            request_id = self._made_up_request_id = self._new_request_id()
            self._headers += ((REQUEST_ID, request_id.encode()),)
        return [
            CallLayers(
                request_id=request_id,
                headers=self._headers,
                body=self._body,
                bodiless=not self._has_body,
                subset=self._subset,
            )
        ]

    def _refuse_size(self) -> list[Action]:
        return self._refuse(
            "PayloadTooLarge", f"the request body is longer than {self._max_body_bytes} bytes"
        )

    def _refuse(self, code: str, message: str) -> list[Action]:
        self.state = RequestState.OVER
        why = rejection(code, message)
        return [Unrouted(Refused(why)), Refusal(why)]
