"""One call as its client sees it: messages out, messages and a status in.

    head --messages--> trailers --END_STREAM--> concluded
    any --RST_STREAM, loss, cancel, deadline--> concluded

A call concludes once, by `on_conclude`.
"""

from wire.grpc.call_ends import status_of_http, status_of_reset
from wire.grpc.framing import MessageReader, frame_message
from wire.grpc.heads import ResponseHead, response_head_of
from wire.http2.client_connection import ClientConnection
from wire.http2.errors import ErrorCode, Http2StreamError
from wire.http2.hpack_cache import HeaderBlock
from wire.http2.sender import END
from wire.http2.stream import Stream
from wire.status import Metadata, RpcError, RpcStatus


class ClientStream(Stream):
    """Base of the kinds of calls; they override `on_message` and `on_conclude`."""

    __slots__ = (
        "_end",
        "_has_head",
        "_is_concluded",
        "_message",
        "_reader",
        "_status",
        "was_refused",
    )

    def __init__(
        self, connection: ClientConnection, stream_id: int, max_message_bytes: int
    ) -> None:
        super().__init__(connection, stream_id)
        self._reader = MessageReader(max_message_bytes)
        self._has_head = self._is_concluded = False
        self._status, self._message = RpcStatus.UNKNOWN, "the server sent no grpc-status"
        self._end: ResponseHead | None = None
        self.was_refused = False
        """The server has not begun with this call: it may be made again (RFC 9113 section 8.7)."""

    def on_message(self, message: bytes) -> None:
        """One whole message."""

    def on_conclude(self, status: RpcStatus, message: str) -> None:
        """The call is over."""

    @property
    def is_concluded(self) -> bool:
        return self._is_concluded

    @property
    def trailers(self) -> Metadata:
        """What came with the status."""
        return {} if self._end is None else self._end.metadata

    @property
    def is_answered(self) -> bool:
        """The server has begun with the call."""
        return self._has_head

    def open_with(self, block: bytes) -> None:
        """Send the head of the call."""
        self.connection.send_headers(self, block)

    def send_message(self, message: bytes, *, is_last: bool = False) -> None:
        """Send or queue one message; dropped when the call has ended."""
        if not self.closed and not self.local_done and self.ending is None:
            self.connection.send_data(self, frame_message(message), END if is_last else None)

    def finish_sending(self) -> None:
        if not self.closed and not self.local_done and self.ending is None:
            self.connection.end(self, END)

    def give_up(self, status: RpcStatus, message: str) -> None:
        """End the call at both sides: RST_STREAM CANCEL to the server, `status` for the caller."""
        self.connection.reset(self, ErrorCode.CANCEL)
        self._conclude(status, message)

    def expire(self) -> None:
        self.give_up(RpcStatus.DEADLINE_EXCEEDED, "the deadline of the call is over")

    def on_headers(self, block: HeaderBlock, *, is_last: bool) -> None:
        head = response_head_of(block)
        if head.http_status is None:
            if not self._has_head or not is_last:
                raise Http2StreamError(ErrorCode.PROTOCOL_ERROR, "trailers out of place")
        elif self._has_head:
            raise Http2StreamError(ErrorCode.PROTOCOL_ERROR, "second head")
        elif head.http_status < 200:
            return  # informational: the head is to come (section 8.1)
        else:
            self._has_head = True
            if head.status is None and (head.http_status != 200 or not head.is_grpc):
                status = status_of_http(head.http_status)
                self.give_up(status, f"HTTP status {head.http_status}, no gRPC answer")
                return
        if head.status is not None:
            self._end, self._status, self._message = head, head.status, head.message

    def on_data(self, data: bytes) -> None:
        if not self._has_head:
            raise Http2StreamError(ErrorCode.PROTOCOL_ERROR, "DATA ahead of the head")
        reader = self._reader
        before = reader.pending_bytes
        try:
            messages = reader.feed(data)
        except RpcError as error:
            self.give_up(error.status, error.message)
            return
        if reader.pending_bytes != before:
            self.connection.hold(self, reader.pending_bytes - before)
        for message in messages:
            if self.closed:
                return
            self.on_message(message)

    def on_end(self) -> None:
        if not self.local_done:
            # Answered before all was asked: what waits to be sent is of no use any more.
            self.connection.reset(self, ErrorCode.NO_ERROR)
        if self._status is RpcStatus.OK and self._reader.pending_bytes:
            self._conclude(RpcStatus.INTERNAL, "the answer ends within a message")
        else:
            self._conclude(self._status, self._message)

    def on_reset(self, code: ErrorCode | None) -> None:
        self.was_refused = code is ErrorCode.REFUSED_STREAM and not self._has_head
        if code is None:
            reason = self.connection.close_reason
            self._conclude(RpcStatus.UNAVAILABLE, f"the connection was lost: {reason}")
        else:
            self._conclude(status_of_reset(code), f"the stream was reset: {code.name}")

    def _conclude(self, status: RpcStatus, message: str) -> None:
        if not self._is_concluded:
            self._is_concluded = True
            self.on_conclude(status, message)
