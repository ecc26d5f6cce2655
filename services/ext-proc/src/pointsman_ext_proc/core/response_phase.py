"""The response's half of an exchange: passes the answer on, and learns from it what it can.

    state    | event    | mode                 | next    | out
    ---------+----------+----------------------+---------+------------------------------------------
    AWAITING | headers  | any                  | PASSING | go on
    AWAITING | headers  | duplex, JSON to read | HOLDING | go on
    AWAITING | headers, the end               | DONE    | go on; AnswerEnded
    PASSING  | body     | FULL_DUPLEX_STREAMED | PASSING | the same bytes, at once
    PASSING  | body     | STREAMED, BUFFERED   | PASSING | go on, or the changed bytes
    PASSING  | body     | STREAMED, access log | LEFT    | go on; EndStream (at the first chunk)
    HOLDING  | body     | duplex               | HOLDING | –  (past the limit: all of it, PASSING)
    HOLDING  | the end  | duplex               | DONE    | the whole, in pieces; AnswerEnded
    PASSING  | the end  | any                  | DONE    | go on; AnswerEnded
    not DONE | closed   | NONE                 | DONE    | AnswerEnded
    not DONE | closed, reset | other           | DONE    | AnswerEnded, client-gone
    not DONE, not LEFT | evicted               | DONE    | AnswerEnded, evicted
    PASSING  | the end  | same, status >= 500  | LEFT    | go on; EndStream
    LEFT     | any      |                      | LEFT    | –  (the access log tells the end)

Ending the stream early loses chunks in FULL_DUPLEX_STREAMED mode, silently: it is done in STREAMED
mode alone, where it is safe. A first chunk is told of once, and only for a good answer.
"""

from enum import Enum, auto

from pointsman_ext_proc.core.answer_reader import AnswerReader
from pointsman_ext_proc.core.body_pieces import pieces
from pointsman_ext_proc.core.endpoint_headers import CONFORMANCE_SERVED, header
from pointsman_ext_proc.core.eviction import EVICTION
from pointsman_ext_proc.core.exchange_events import (
    MAX_PIECE_BYTES,
    Action,
    AnsweredHeaders,
    AnswerEnded,
    BodyMode,
    ContinueResponseBody,
    ContinueResponseTrailers,
    Dispatched,
    EndStream,
    FirstChunk,
    LeaseServed,
    ReplacedResponseBody,
    ResponseBody,
    ResponseBodyPiece,
    ResponseHeaders,
)

CONTINUE_BODY = ContinueResponseBody()
_SIGNALS = (LeaseServed, FirstChunk)


class ResponseState(Enum):
    AWAITING = auto()
    PASSING = auto()
    HOLDING = auto()
    LEFT = auto()
    DONE = auto()


class ResponsePhase:
    def __init__(
        self,
        *,
        mode: BodyMode,
        ends_in_access_log: bool,
        max_buffer_bytes: int,
        echo_served: bool,
    ) -> None:
        self.state = ResponseState.AWAITING
        self._mode = mode
        self._duplex = mode is BodyMode.FULL_DUPLEX_STREAMED
        self._leaves_early = ends_in_access_log and mode is BodyMode.STREAMED
        self._max_buffer_bytes, self._echo_served = max_buffer_bytes, echo_served
        self._dispatched: Dispatched | None = None
        self._reader: AnswerReader | None = None
        self._status = 0
        self._length = 0
        self._streaming = False
        self._first_due = True
        self._echoes = False
        """Chunks are passed on as they are; the reader may listen."""
        self._held: list[bytes] = []
        self._held_length = 0

    @property
    def begun(self) -> bool:
        return self.state is not ResponseState.AWAITING

    def expect(self, dispatched: Dispatched) -> None:
        """The request has gone: this is what it was."""
        self._dispatched = dispatched

    def take_headers(self, event: ResponseHeaders) -> list[Action]:
        status = header(event.headers, ":status") or ""
        self._status = int(status) if status.isdigit() else 0
        self._first_due = self._status < 400
        self._read_by(header(event.headers, "content-type") or "")
        actions: list[Action] = []
        if event.served:
            actions.append(LeaseServed(event.served))
        actions.append(self._answered_headers(event.served))
        return self._ended_first(actions) if event.end_of_stream else actions

    def echoes(self, event: ResponseBody) -> bool:
        """Whether the chunk goes back as it came, and that is all; it has then been noted."""
        body = event.body
        if not self._echoes or event.end_of_stream or len(body) > MAX_PIECE_BYTES:
            return False
        self._length += len(body)
        if self._reader is not None:
            self._reader.feed(body)
        return True

    def take_body(self, event: ResponseBody) -> list[Action]:
        if self.echoes(event):
            return [ResponseBodyPiece(event.body, False)]
        body = event.body
        self._length += len(body)
        if self.state in (ResponseState.LEFT, ResponseState.DONE):
            return []
        actions: list[Action] = []
        if self._first_due and body:
            self._first_due = False
            actions.append(FirstChunk(self._streaming))
        ends = event.end_of_stream
        actions += self._pass_on(body, ends=ends) if self._duplex else self._go_on(body, ends=ends)
        if ends:
            return self._ended_first(actions)
        if self._leaves_early and not self._restores:
            self.state = ResponseState.LEFT
            actions.append(EndStream())
        else:
            passing = self.state is ResponseState.PASSING
            settled = not self._restores and not self._first_due
            self._echoes = self._duplex and passing and settled
        return actions

    def take_trailers(self) -> list[Action]:
        actions: list[Action] = []
        if self._duplex and self._reader is not None:
            rest = b"".join((*self._held, self._reader.finish()))
            if rest:
                actions += (
                    ResponseBodyPiece(*piece) for piece in pieces(rest, end_of_stream=False)
                )
        actions.append(ContinueResponseTrailers())
        return actions if self.state is ResponseState.DONE else self._ended_first(actions)

    def close(self, *, reset: bool) -> list[Action]:
        """The gateway sends nothing more.

        Where the body's end is shown, a stream that closes before it means that the client went. In
        NONE mode both look alike, so an answer that began counts as finished.
        """
        if self.state in (ResponseState.LEFT, ResponseState.DONE):
            return []
        whole = self._mode is BodyMode.NONE and (self._status > 0 or not reset)
        return [self._end("finished" if whole else "client-gone")]

    def evict(self) -> AnswerEnded | None:
        """End the answer before its time; `None`: it has ended, or is out of the edge's reach."""
        if self.state in (ResponseState.LEFT, ResponseState.DONE):
            return None
        if self.state is ResponseState.AWAITING:
            self._status = EVICTION.http_status
        return self._end("evicted")

    def _answered_headers(self, served: str) -> AnsweredHeaders:
        echo = ((CONFORMANCE_SERVED, served.encode()),) if self._echo_served and served else ()
        if self._dispatched is None or not self._dispatched.picked.HasField("response_headers"):
            return AnsweredHeaders(echo)
        asked = self._dispatched.picked.response_headers
        set_headers = tuple([(item.key.lower(), item.value) for item in asked.set])
        return AnsweredHeaders((*echo, *set_headers), tuple(asked.remove))

    @property
    def _restores(self) -> bool:
        return self._reader is not None and self._reader.restores

    def _read_by(self, content_type: str) -> None:
        self.state = ResponseState.PASSING
        dispatched = self._dispatched
        if dispatched is None:
            return
        content_type = content_type.lower()
        good = self._status < 400
        self._streaming = "text/event-stream" in content_type or (
            dispatched.descriptor.stream and good
        )
        json = "json" in content_type
        reader = AnswerReader(
            dispatched,
            streaming=self._streaming,
            json=json,
            max_json_bytes=self._max_buffer_bytes,
        )
        self._reader = reader
        if self._duplex and json and not self._streaming and not reader.idle:
            self.state = ResponseState.HOLDING

    def _pass_on(self, body: bytes, *, ends: bool) -> list[Action]:
        """In FULL_DUPLEX_STREAMED mode the edge sends the body, when and how it wants."""
        body = self._read(body, ends=ends)
        if self.state is ResponseState.HOLDING:
            self._held.append(body)
            self._held_length += len(body)
            if not ends and self._held_length <= self._max_buffer_bytes:
                return []
            body = b"".join(self._held)
            self._held.clear()
            self.state = ResponseState.PASSING
        if not body and not ends:
            return []
        return [ResponseBodyPiece(*piece) for piece in pieces(body, end_of_stream=ends)]

    def _go_on(self, body: bytes, *, ends: bool) -> list[Action]:
        """In the other modes each message has exactly one answer."""
        whole = ends or self._mode is BodyMode.BUFFERED
        passed = self._read(body, ends=whole)
        if not self._restores:
            return [CONTINUE_BODY]
        return [ReplacedResponseBody(passed, self._mode is BodyMode.BUFFERED)]

    def _read(self, body: bytes, *, ends: bool) -> bytes:
        if self._reader is None:
            return body
        body = self._reader.feed(body)
        return body + self._reader.finish() if ends else body

    def _ended_first(self, actions: list[Action]) -> list[Action]:
        """The gateway may reset the stream once it has the last reply: tell the end before."""
        if self._leaves_early and self._status >= 500:
            # The access log knows whether it was the endpoint's answer or that none was reached.
            self.state = ResponseState.LEFT
            return [*actions, EndStream()]
        signals = [action for action in actions if isinstance(action, _SIGNALS)]
        replies = [action for action in actions if not isinstance(action, _SIGNALS)]
        return [*signals, self._end("finished"), *replies]

    def _end(self, cause: str) -> AnswerEnded:
        self.state = ResponseState.DONE
        self._echoes = False
        usage = None if self._reader is None else self._reader.usage()
        return AnswerEnded(self._status, cause, self._length, usage)
