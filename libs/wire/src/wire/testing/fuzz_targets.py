"""Bytes as scripts: what a fuzzer drives, and what replays its findings.

Each target reads its input as a sequence of steps: frames and bytes of the peer, and things that
our end does of its own. After each step the invariants are checked. Any exception is a finding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType

import hpack
from hpack.exceptions import HPACKError

from wire.grpc.heads import request_head_of
from wire.grpc.server_stream import ServerStream
from wire.http2.errors import Http2ConnectionError
from wire.http2.frames import frame, window_update
from wire.http2.hpack_cache import HeaderBlock, HeaderBlockReader
from wire.http2.limits import Limits
from wire.http2.liveness import Liveness
from wire.http2.server_connection import ServerConnection
from wire.http2.settings import settings_frame
from wire.status import RpcStatus
from wire.testing.invariants import InvariantError, OutputWatch, check_connection, require
from wire.testing.scripted_client import REQUEST_BLOCK, ScriptedClient
from wire.testing.scripted_peer import ScriptedPeer
from wire.testing.scripted_server import OK_BLOCK, RESPONSE_BLOCK, ScriptedServer

LIMITS = Limits(
    max_concurrent_streams=4,
    stream_window_bytes=1000,
    connection_window_bytes=65_535,
    max_header_block_bytes=600,
    max_header_list_bytes=900,
    max_continuations=3,
    control_frames_burst=40,
    control_frames_per_s=1.0,
    resets_burst=20,
    resets_per_s=1.0,
    max_buffered_bytes=1500,
    max_unsent_bytes=4000,
    handshake_timeout_s=5.0,
    stall_timeout_s=20.0,
    idle_timeout_s=30.0,
    keepalive_interval_s=10.0,
)
"""Small, so that a short script reaches each."""

_PAYLOADS = (
    REQUEST_BLOCK,
    RESPONSE_BLOCK,
    OK_BLOCK,
    REQUEST_BLOCK + b"\x0f\x0d\x013",  # content-length: 3
    b"\0\0\0\0\x03abc",  # a message
    b"\0\0\0\x01\0" + bytes(150),
    bytes(4),
    bytes(5),
    bytes(8),
    b"\0\0\x03\xe8",
    b"\x7f\xff\xff\xff",
    b"\0\x04\0\0\0\x05",  # INITIAL_WINDOW_SIZE 5
    b"\0\x04\x7f\xff\xff\xff",
    b"\0\x01\0\0\0\0",  # HEADER_TABLE_SIZE 0
    b"\x40\x01a\x01b\xbe",
    b"",
)


class _Script:
    """Input, read from its front; zeros follow its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def byte(self) -> int:
        self._position += 1
        return self._data[self._position - 1] if self._position <= len(self._data) else 0

    def take(self, size: int) -> bytes:
        self._position += size
        return self._data[self._position - size : self._position]

    def stream_id(self) -> int:
        """Mostly one of the first few."""
        choice = self.byte()
        return choice & 0x0F if choice < 0xF0 else int.from_bytes(self.take(4), "big")

    def payload(self) -> bytes:
        choice = self.byte()
        if choice < len(_PAYLOADS):
            return _PAYLOADS[choice]
        return self.take(choice & 0x3F)

    def frame(self) -> bytes:
        kind, flags, stream_id = self.byte(), self.byte(), self.stream_id()
        sent = frame(kind % 11, flags, stream_id, self.payload())
        return sent if kind < 0xE0 else sent[:2] + bytes((kind & 0x1F,)) + sent[3:]


class _EchoStream(ServerStream):
    """Sends back each message, and ends when the client does."""

    __slots__ = ()

    def on_message(self, message: bytes) -> None:
        self.send_message(message)

    def on_end(self) -> None:
        self.finish()


class _LazyStream(ServerStream):
    """Does nothing of its own."""

    __slots__ = ()


def _accept_echo(connection: ServerConnection, stream_id: int, block: HeaderBlock) -> ServerStream:
    return _EchoStream(connection, stream_id, request_head_of(block), 200)


def _accept_lazy(connection: ServerConnection, stream_id: int, block: HeaderBlock) -> ServerStream:
    return _LazyStream(connection, stream_id, request_head_of(block), 200)


class _Play(ABC):
    """One connection under a script; a subclass knows what its end does of its own."""

    def __init__(self, script: _Script, peer: ScriptedPeer) -> None:
        self._script, self._peer = script, peer
        self._connection = peer.connection
        self._liveness = Liveness(self._connection, peer.now)
        self._watch = OutputWatch()

    def run(self) -> None:
        while self._script and not self._connection.closing:
            self._step()
            self._peer.read()
            self._watch.check(self._peer.frames, self._connection)
            self._peer.frames.clear()
            check_connection(self._connection)
        self._connection.cut_off("lost")
        self._connection.receive(bytes(50), self._peer.now)
        require(not self._connection.streams, "streams outlive their connection")

    def _step(self) -> None:
        script, connection, peer = self._script, self._connection, self._peer
        choice = script.byte() & 0x0F
        if choice < 7:
            peer.send(script.frame())
        elif choice == 7:
            peer.send(script.take(script.byte()))
        elif choice == 8:
            sent = script.frame()
            peer.send(sent[: script.byte() % 12])
            peer.send(sent[len(sent) // 2 :])
        elif choice == 9:
            peer.now += script.byte() / 8
            self._liveness.tick(peer.now)
        elif choice == 10:
            if connection.is_paused:
                connection.resume()
            else:
                connection.pause()
        elif choice == 11:
            for stream in [*connection.streams.values()]:
                stream.unread = min(script.byte(), stream.connection.limits.stream_window_bytes)
                connection.replenish(stream)
        elif choice == 12:
            peer.send(settings_frame({4: script.byte(), 5: 1 << 14}), window_update(0, 9))
        else:
            self._own_step(choice, script.byte(), script.byte())

    @abstractmethod
    def _own_step(self, choice: int, which: int, size: int) -> None:
        """Let our end do something: `choice` is 13 to 15, `which` names a stream."""


class _ServerPlay(_Play):
    def __init__(self, script: _Script) -> None:
        accept = _accept_lazy if script.byte() & 1 else _accept_echo
        self._client = ScriptedClient(LIMITS, accept=accept)
        super().__init__(script, self._client)

    def _own_step(self, choice: int, which: int, size: int) -> None:
        server = self._client.server
        streams = [stream for stream in server.streams.values() if isinstance(stream, ServerStream)]
        if which == 0xFF:
            server.drain()
        if not streams:
            return
        stream = streams[which % len(streams)]
        if choice == 13:
            stream.send_message(bytes(size))
        elif choice == 14:
            stream.reply(bytes(size * 4))
        elif size & 1:
            stream.abort(RpcStatus.CANCELLED, "left")
        else:
            stream.finish(RpcStatus.NOT_FOUND, "é\n")


class _ClientPlay(_Play):
    def __init__(self, script: _Script) -> None:
        script.byte()
        self._server = ScriptedServer(LIMITS)
        super().__init__(script, self._server)

    def run(self) -> None:
        super().run()
        for call in self._server.calls:
            require(len(call.ends) == 1, f"a call concluded {len(call.ends)} times")

    def _own_step(self, choice: int, which: int, size: int) -> None:
        client, calls = self._server.client, self._server.calls
        if choice == 13 and client.has_room and len(client.streams) < 8:
            self._server.call(ends=bool(which & 1))
        if not calls:
            return
        call = calls[which % len(calls)]
        if choice == 14:
            call.send_message(bytes(size * 4), is_last=bool(size & 1))
        elif choice == 15 and which == 0xFF:
            client.drain()
        elif choice == 15 and not call.closed:
            if size & 1:
                call.expire()
            else:
                call.finish_sending()


def fuzz_server(data: bytes) -> None:
    """A server whose client is `data`."""
    _ServerPlay(_Script(data)).run()


def fuzz_client(data: bytes) -> None:
    """A client whose server is `data`."""
    _ClientPlay(_Script(data)).run()


def fuzz_bytes(data: bytes) -> None:
    """A server, and a client, that get bytes as they are, behind the handshake or without it."""
    for peer in (
        ScriptedClient(LIMITS),
        ScriptedClient(LIMITS, greets=False),
        ScriptedServer(LIMITS),
        ScriptedServer(LIMITS, greets=False),
    ):
        peer.send(data[:40]).send(data[40:])
        check_connection(peer.connection)


def fuzz_hpack(data: bytes) -> None:
    """Blocks, each behind its length, by our reader and by the `hpack` library: what we take, it
    takes, and reads the same. We may refuse more, such as integers of many octets."""
    script = _Script(data)
    reader = HeaderBlockReader(max_list_bytes=4000)
    reference = hpack.Decoder(max_header_list_size=1 << 20)
    while script:
        block = script.take(script.byte())
        try:
            fields = reader.read(block).fields
        except Http2ConnectionError:
            return
        try:
            expected = reference.decode(block, raw=True)
        except HPACKError as error:
            raise InvariantError(f"the reference refuses {block.hex()}: {error!r}") from error
        require(fields == tuple(map(tuple, expected)), f"{block.hex()} reads as {fields}")


TARGETS: Mapping[str, Callable[[bytes], None]] = MappingProxyType(
    {"server": fuzz_server, "client": fuzz_client, "bytes": fuzz_bytes, "hpack": fuzz_hpack}
)
"""By the name of the folder of their corpus."""
