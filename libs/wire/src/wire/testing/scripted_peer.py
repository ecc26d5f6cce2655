"""Half of a connection without a network: what a peer says, and how our end answers it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from wire.http2.connection import Connection
from wire.http2.errors import ErrorCode
from wire.http2.frames import GOAWAY, HEADER_BYTES, RST_STREAM, read_uint32, unpack_header


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


class ScriptedPeer(ABC):
    """Sends any frames, right or wrong, and reads the frames that come back."""

    def __init__(self) -> None:
        self.now = 100.0
        self.frames: list[Frame] = []
        """All that our end said since the handshake."""
        self._rest = b""

    @property
    @abstractmethod
    def connection(self) -> Connection:
        """Our end."""

    def send(self, *parts: bytes) -> Self:
        """Send bytes as one read, and take in the answer."""
        self.connection.receive(b"".join(parts), self.now)
        self.read()
        return self

    def send_each(self, parts: Iterable[bytes], *, most: int = 100_000) -> int:
        """Send parts one read each until the connection ends; how many it took."""
        sent = 0
        for part in parts:
            if self.connection.closing or sent >= most:
                break
            self.send(part)
            sent += 1
        return sent

    def read(self) -> None:
        data = self._rest + self.connection.take_output()
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
        return found[-1].code if found and self.connection.closing else None

    def reset_of(self, stream_id: int) -> ErrorCode | None:
        found = self.said(RST_STREAM, stream_id)
        return found[-1].code if found else None
