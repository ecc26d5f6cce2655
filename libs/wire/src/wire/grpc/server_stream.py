"""One call as its server sees it: messages in, messages and a status out. On the hot path:
`benchmarks/bench_hop.py`."""

from collections.abc import Sequence

from wire.grpc.call_ends import OK_TRAILERS, encode_trailers
from wire.grpc.framing import MessageReader, frame_message, frame_messages
from wire.grpc.heads import RESPONSE_HEAD, RequestHead
from wire.http2.errors import ErrorCode, Http2StreamError
from wire.http2.header_encoding import encode_fields
from wire.http2.header_rules import check_trailers
from wire.http2.hpack_cache import HeaderBlock
from wire.http2.server_connection import AcceptedStream, ServerConnection
from wire.status import Metadata, RpcError, RpcStatus


class ServerStream(AcceptedStream):
    """Base of the kinds of handlers; they override the `on_` methods."""

    __slots__ = ("_reader", "head", "max_message_bytes")

    def __init__(
        self,
        connection: ServerConnection,
        stream_id: int,
        head: RequestHead,
        max_message_bytes: int,
    ) -> None:
        super().__init__(connection, stream_id)
        self.head, self.max_message_bytes = head, max_message_bytes
        self._reader = MessageReader(max_message_bytes)

    def on_message(self, message: bytes) -> None:
        """One whole message."""

    def on_headers(self, block: HeaderBlock, *, is_last: bool) -> None:
        """Trailers of a request mean nothing to gRPC, but must be well formed (section 8.1)."""
        if not is_last:
            raise Http2StreamError(ErrorCode.PROTOCOL_ERROR, "second head")
        check_trailers(block)

    def on_data(self, data: bytes) -> None:
        reader = self._reader
        before = reader.pending_bytes
        try:
            messages = reader.feed(data)
        except RpcError as error:
            self.abort(error.status, error.message)
            return
        if reader.pending_bytes != before:
            self.connection.hold(self, reader.pending_bytes - before)
        for message in messages:
            if self.closed:
                return
            self.on_message(message)

    @property
    def is_ended(self) -> bool:
        """Nothing more can be sent: it is over, or its end is on the way."""
        return self.closed or self.local_done or self.ending is not None

    def send_message(self, message: bytes) -> None:
        """Send or queue one message; dropped when the call has ended."""
        self._send(len(message), frame_message(message))

    def send_messages(self, messages: Sequence[bytes]) -> None:
        """The same for several, in one write."""
        self._send(max(map(len, messages), default=0), frame_messages(messages))

    def reply(self, message: bytes) -> None:
        """The whole answer of a unary call: head, message, status OK."""
        if self.is_ended:
            return
        if len(message) > self.max_message_bytes:
            self.finish(RpcStatus.RESOURCE_EXHAUSTED, _too_large(len(message)))
            return
        data = frame_message(message)
        self.connection.send_response(self, RESPONSE_HEAD, data, OK_TRAILERS)

    def finish(
        self,
        status: RpcStatus = RpcStatus.OK,
        message: str = "",
        metadata: Metadata | None = None,
    ) -> None:
        """End the call behind what has been sent.

        Raises:
            ValueError: the metadata is none (see `encode_metadata`).
        """
        if self.is_ended:
            return
        trailers = encode_trailers(status, message, metadata)
        if self.answered:
            self.connection.end(self, trailers)
        else:
            self.connection.send_headers(self, RESPONSE_HEAD + trailers, end_stream=True)

    def abort(self, status: RpcStatus, message: str = "") -> None:
        """End the call now: what waits in the queue is dropped, and its handler told."""
        if self.closed:
            return
        if self.queue:
            # Perhaps in the middle of a message: no status may follow.
            self.connection.reset(self, ErrorCode.CANCEL)
        else:
            self.finish(status, message)
        self.on_reset(ErrorCode.CANCEL)

    def refuse_http(self, status: bytes) -> None:
        """End a request that is no call with an HTTP status."""
        self.connection.send_headers(self, encode_fields([(b":status", status)]), end_stream=True)

    def _send(self, largest: int, data: bytes) -> None:
        if self.is_ended or not data:
            return
        if largest > self.max_message_bytes:
            self.finish(RpcStatus.RESOURCE_EXHAUSTED, _too_large(largest))
            return
        connection = self.connection
        if not self.answered:
            connection.send_headers(self, RESPONSE_HEAD)
        if self.queue and len(self.queue) > connection.limits.max_unsent_bytes:
            connection.reset(self, ErrorCode.ENHANCE_YOUR_CALM)
            self.on_reset(ErrorCode.ENHANCE_YOUR_CALM)
            return
        connection.send_data(self, data)


def _too_large(size: int) -> str:
    return f"answer of {size} bytes is over the limit"
