"""A client that sends any frames, right or wrong, to a `ServerConnection` without a network."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_BYTES,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    read_uint32,
    unpack_header,
)
from wire.http2.header_encoding import encode_fields
from wire.http2.hpack_cache import HeaderBlock
from wire.http2.limits import Limits
from wire.http2.server_connection import Accept, AcceptedStream, ServerConnection

REQUEST_FIELDS = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/t.S/Echo"),
    (b":authority", b"test"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)
REQUEST_BLOCK = encode_fields(REQUEST_FIELDS)


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> ErrorCode:
        """Of RST_STREAM or GOAWAY."""
        return ErrorCode(read_uint32(self.payload, 4 if self.kind == GOAWAY else 0))


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


class ScriptedClient:
    """Holds the server's half of the connection, and reads what it says."""

    def __init__(
        self, limits: Limits | None = None, *, greets: bool = True, accept: Accept | None = None
    ) -> None:
        """The server's streams are made by `accept`, or note what they are told."""
        self.accepted: list[RecordingStream] = []
        self.now = 100.0
        self.server = ServerConnection(
            limits or Limits(), accept=accept or self._accept, now=self.now, wake=lambda: None
        )
        self.frames: list[Frame] = []
        """All that the server said after its first frames."""
        self._rest = b""
        self.read()
        self.greeting, self.frames = self.frames, []
        if greets:
            self.send(PREFACE, frame(SETTINGS, 0, 0))
            self.frames.clear()

    def send(self, *parts: bytes) -> Self:
        """Send bytes as one read, and take in the answer."""
        self.server.receive(b"".join(parts), self.now)
        self.read()
        return self

    def request(self, stream_id: int, *, ends: bool = False, block: bytes = REQUEST_BLOCK) -> Self:
        flags = END_HEADERS | (END_STREAM if ends else 0)
        return self.send(frame(HEADERS, flags, stream_id, block))

    def read(self) -> None:
        data = self._rest + self.server.take_output()
        while len(data) >= HEADER_BYTES:
            length_and_type, flags, stream_id = unpack_header(data)
            stop = HEADER_BYTES + (length_and_type >> 8)
            payload = data[HEADER_BYTES:stop]
            self.frames.append(Frame(length_and_type & 0xFF, flags, stream_id, payload))
            data = data[stop:]
        self._rest = data

    def said(self, kind: int, stream_id: int | None = None) -> list[Frame]:
        return [
            frame
            for frame in self.frames
            if frame.kind == kind and stream_id in (None, frame.stream_id)
        ]

    @property
    def goaway(self) -> ErrorCode | None:
        """The code by which the connection was ended."""
        found = self.said(GOAWAY)
        return found[-1].code if found and self.server.closing else None

    def reset_of(self, stream_id: int) -> ErrorCode | None:
        found = self.said(RST_STREAM, stream_id)
        return found[-1].code if found else None

    def send_each(self, parts: Iterable[bytes], *, most: int = 100_000) -> int:
        """Send parts one read each until the connection ends; how many it took."""
        sent = 0
        for part in parts:
            if self.server.closing or sent >= most:
                break
            self.send(part)
            sent += 1
        return sent

    def _accept(
        self, connection: ServerConnection, stream_id: int, block: HeaderBlock
    ) -> RecordingStream:
        stream = RecordingStream(connection, stream_id, block)
        self.accepted.append(stream)
        return stream
