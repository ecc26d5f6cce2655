"""One demand of the specifications on a server or a client, and how it is played."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from wire.grpc.heads import request_head_of
from wire.grpc.server_stream import ServerStream
from wire.http2.errors import ErrorCode
from wire.http2.hpack_cache import HeaderBlock
from wire.http2.server_connection import ServerConnection
from wire.testing.scripted_client import ScriptedClient
from wire.testing.scripted_peer import ScriptedPeer
from wire.testing.scripted_server import ScriptedServer


class Ends(NamedTuple):
    """By which codes the connection and the stream 1 were ended, if they were."""

    goaway: ErrorCode | None
    reset: ErrorCode | None
    unsaid: frozenset[int]
    """Types of frames that should have been sent and were not."""


@dataclass(frozen=True)
class Case:
    """What a peer sends after the handshake, and how our end must end the connection (a GOAWAY
    code), the stream 1 (an RST_STREAM code), or neither."""

    section: str
    """Of RFC 9113, or of RFC 7541 where it begins with `HPACK`."""
    what: str
    sent: tuple[bytes, ...]
    goaway: ErrorCode | None = None
    reset: ErrorCode | None = None
    answered: tuple[int, ...] = ()
    """Types of frames that our end must have sent."""
    is_over: bool = False
    """A server answers each request when it ends; a client has ended its request."""

    def __str__(self) -> str:
        return f"{self.section}: {self.what}"

    @property
    def expected(self) -> Ends:
        return Ends(self.goaway, self.reset, frozenset())

    def play_to_server(self, parts: Iterable[bytes]) -> Ends:
        """Send `parts` to a server."""
        client = ScriptedClient(accept=_answer if self.is_over else _listen)
        client.send_each(parts)
        return self._ends(client)

    def play_to_client(self, parts: Iterable[bytes]) -> Ends:
        """The same to a client that has opened stream 1."""
        server = ScriptedServer()
        server.call(ends=self.is_over)
        server.send_each(parts)
        return self._ends(server)

    def _ends(self, peer: ScriptedPeer) -> Ends:
        said = {found.kind for found in peer.frames}
        return Ends(peer.goaway, peer.reset_of(1), frozenset(self.answered) - said)


class _CheckedStream(ServerStream):
    """Judges heads and trailers; content may be anything."""

    __slots__ = ()

    def on_data(self, data: bytes) -> None:
        """Taken."""


class _AnsweringStream(_CheckedStream):
    __slots__ = ()

    def on_end(self) -> None:
        self.finish()


def _listen(connection: ServerConnection, stream_id: int, block: HeaderBlock) -> ServerStream:
    return _CheckedStream(connection, stream_id, request_head_of(block), 4 << 20)


def _answer(connection: ServerConnection, stream_id: int, block: HeaderBlock) -> ServerStream:
    return _AnsweringStream(connection, stream_id, request_head_of(block), 4 << 20)
