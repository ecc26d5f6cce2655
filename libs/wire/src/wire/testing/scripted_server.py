"""A server that sends any frames, right or wrong, to a `ClientConnection` without a network."""

from wire.grpc.client_stream import ClientStream
from wire.http2.client_connection import ClientConnection
from wire.http2.frames import PREFACE, SETTINGS, frame
from wire.http2.header_encoding import encode_fields
from wire.http2.limits import Limits
from wire.status import RpcStatus
from wire.testing.scripted_client import REQUEST_BLOCK
from wire.testing.scripted_peer import ScriptedPeer

RESPONSE_FIELDS = ((b":status", b"200"), (b"content-type", b"application/grpc"))
RESPONSE_BLOCK = encode_fields(RESPONSE_FIELDS)
OK_BLOCK = encode_fields([(b"grpc-status", b"0")])


class RecordingCall(ClientStream):
    """A call that notes what it is told."""

    __slots__ = ("ends", "messages")

    def __init__(self, connection: ClientConnection, stream_id: int) -> None:
        super().__init__(connection, stream_id, max_message_bytes=4 << 20)
        self.messages: list[bytes] = []
        self.ends: list[RpcStatus] = []

    def on_message(self, message: bytes) -> None:
        self.messages.append(message)

    def on_conclude(self, status: RpcStatus, message: str) -> None:
        self.ends.append(status)


class ScriptedServer(ScriptedPeer):
    """Holds the client's half of the connection, and reads what it says."""

    def __init__(self, limits: Limits | None = None, *, greets: bool = True) -> None:
        super().__init__()
        self.client = ClientConnection(
            limits or Limits(), now=self.now, wake=lambda: None, on_change=lambda: None
        )
        self.calls: list[RecordingCall] = []
        greeting = self.client.take_output()
        self.preface, self._rest = greeting[: len(PREFACE)], greeting[len(PREFACE) :]
        self.read()
        self.greeting, self.frames = self.frames, []
        """The first frames of the client, behind its `preface`."""
        if greets:
            self.send(frame(SETTINGS, 0, 0))
            self.frames.clear()

    @property
    def connection(self) -> ClientConnection:
        return self.client

    def call(self, *, ends: bool = True) -> RecordingCall:
        """Let the client begin a call; with `ends` its side is done."""
        call = RecordingCall(self.client, self.client.next_stream_id())
        self.client.add(call)
        self.client.send_headers(call, REQUEST_BLOCK, end_stream=ends)
        self.calls.append(call)
        self.read()
        self.frames.clear()
        return call
