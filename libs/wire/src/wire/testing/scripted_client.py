"""A client that sends any frames, right or wrong, to a `ServerConnection` without a network."""

from typing import Self

from wire.http2.errors import ErrorCode
from wire.http2.frames import END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame
from wire.http2.header_encoding import encode_fields
from wire.http2.hpack_cache import HeaderBlock
from wire.http2.limits import Limits
from wire.http2.server_connection import Accept, AcceptedStream, ServerConnection
from wire.testing.scripted_peer import ScriptedPeer

REQUEST_FIELDS = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/t.S/Echo"),
    (b":authority", b"test"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)
REQUEST_BLOCK = encode_fields(REQUEST_FIELDS)


class RecordingStream(AcceptedStream):
    """An owner that notes what it is told and answers nothing."""

    __slots__ = ("events",)

    def __init__(self, connection: ServerConnection, stream_id: int, _: HeaderBlock) -> None:
        super().__init__(connection, stream_id)
        self.events: list[object] = []

    def on_open(self) -> None:
        self.events.append("open")

    def on_headers(self, block: HeaderBlock, *, is_last: bool) -> None:
        self.events.append(("headers", block.fields))

    def on_data(self, data: bytes) -> None:
        self.events.append(("data", data))

    def on_end(self) -> None:
        self.events.append("end")

    def on_reset(self, code: ErrorCode | None) -> None:
        self.events.append(("reset", code))


class ScriptedClient(ScriptedPeer):
    """Holds the server's half of the connection, and reads what it says."""

    def __init__(
        self, limits: Limits | None = None, *, greets: bool = True, accept: Accept | None = None
    ) -> None:
        """The server's streams are made by `accept`, or note what they are told."""
        super().__init__()
        self.accepted: list[RecordingStream] = []
        self.server = ServerConnection(
            limits or Limits(), accept=accept or self._accept, now=self.now, wake=lambda: None
        )
        self.read()
        self.greeting, self.frames = self.frames, []
        """The first frames of the server."""
        if greets:
            self.send(PREFACE, frame(SETTINGS, 0, 0))
            self.frames.clear()

    @property
    def connection(self) -> ServerConnection:
        return self.server

    def request(self, stream_id: int, *, ends: bool = False, block: bytes = REQUEST_BLOCK) -> Self:
        flags = END_HEADERS | (END_STREAM if ends else 0)
        return self.send(frame(HEADERS, flags, stream_id, block))

    def _accept(
        self, connection: ServerConnection, stream_id: int, block: HeaderBlock
    ) -> RecordingStream:
        stream = RecordingStream(connection, stream_id, block)
        self.accepted.append(stream)
        return stream
