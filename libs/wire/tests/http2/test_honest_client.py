"""Whatever a client does that follows the rules, the server takes; the windows agree all along."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    frame,
    rst_stream,
    window_update,
)
from wire.http2.limits import Limits
from wire.http2.sender import END
from wire.http2.settings import settings_frame
from wire.testing.invariants import OutputWatch, check_connection
from wire.testing.scripted_client import REQUEST_BLOCK, RecordingStream, ScriptedClient
from wire.testing.window_model import WindowModel

LIMITS = Limits(
    max_concurrent_streams=5, stream_window_bytes=20_000, connection_window_bytes=70_000
)
TRAILERS = b"\x00\x01a\x01b"

choices = st.integers(0, 99)
sizes = st.one_of(st.integers(0, 40), st.integers(0, 16_000))
"""Of DATA: a few large ones use up half of the connection's window."""


class HonestClient(RuleBasedStateMachine):
    """`sending`: streams that the client has not ended. A stream is over when it is in none of the
    server's tables."""

    def __init__(self) -> None:
        super().__init__()
        self.client = ScriptedClient(LIMITS)
        self.server = self.client.server
        self.windows, self.watch = WindowModel(LIMITS), OutputWatch()
        self.next_id = 1
        self.sending: dict[int, RecordingStream] = {}
        self.left_early: set[int] = set()
        """Streams that the server ended first: it resets them."""
        self.is_drained = False

    def settle(self) -> None:
        """Read what the server said."""
        self.client.read()
        said = [*self.client.frames]
        self.client.frames.clear()
        self.watch.check(said, self.server)
        self.windows.take(said)
        for found in said:
            if found.kind == RST_STREAM:
                assert found.stream_id in self.left_early, "a reset for no fault"
                self.sending.pop(found.stream_id, None)
            elif found.kind == GOAWAY:
                assert found.code is ErrorCode.NO_ERROR
            elif found.kind == PING and not found.flags & ACK:
                self.send(frame(PING, ACK, 0, found.payload))

    def send(self, *parts: bytes) -> None:
        self.client.send(*parts)
        self.settle()

    def choose(self, which: int) -> tuple[int, RecordingStream]:
        return [*self.sending.items()][which % len(self.sending)]

    def answering(self, which: int) -> RecordingStream:
        streams = [stream for stream in self.client.accepted if stream.id in self.server.streams]
        return streams[which % len(streams)]

    # -- what the client does

    @precondition(lambda self: len(self.server.streams) < 5 and not self.is_drained)
    @rule(ends=st.booleans(), cut=st.integers(0, len(REQUEST_BLOCK)), in_parts=st.booleans())
    def opens(self, ends: bool, cut: int, in_parts: bool) -> None:
        stream_id, self.next_id = self.next_id, self.next_id + 2
        self.windows.open(stream_id)
        flags = END_STREAM if ends else 0
        if in_parts:
            self.send(
                frame(HEADERS, flags, stream_id, REQUEST_BLOCK[:cut]),
                frame(CONTINUATION, END_HEADERS, stream_id, REQUEST_BLOCK[cut:]),
            )
        else:
            self.send(frame(HEADERS, flags | END_HEADERS, stream_id, REQUEST_BLOCK))
        if not ends:
            self.sending[stream_id] = self.client.accepted[-1]

    @precondition(lambda self: self.sending)
    @rule(which=choices, size=sizes, padding=st.integers(0, 9), ends=st.booleans())
    def sends_data(self, which: int, size: int, padding: int, ends: bool) -> None:
        stream_id, _ = self.choose(which)
        may = min(self.windows.peer_may_send[stream_id], self.windows.peer_may_send[0])
        payload = bytes(size)
        flags = END_STREAM if ends else 0
        if padding:
            flags, payload = flags | PADDED, bytes((padding,)) + payload + bytes(padding)
        if len(payload) > may:
            return
        if ends:
            del self.sending[stream_id]
        self.windows.peer_sent(stream_id, len(payload))
        self.send(frame(DATA, flags, stream_id, payload))

    @precondition(lambda self: self.sending)
    @rule(which=choices)
    def sends_trailers(self, which: int) -> None:
        stream_id, _ = self.choose(which)
        del self.sending[stream_id]
        self.send(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, TRAILERS))

    @precondition(lambda self: self.sending)
    @rule(which=choices)
    def resets(self, which: int) -> None:
        stream_id, _ = self.choose(which)
        del self.sending[stream_id]
        self.send(rst_stream(stream_id, ErrorCode.CANCEL))

    @precondition(lambda self: self.server.streams)
    @rule(which=choices, increment=st.integers(1, 5000))
    def grants(self, which: int, increment: int) -> None:
        stream_id = [0, *self.server.streams][which % (1 + len(self.server.streams))]
        increment = min(increment, self.windows.room_for_grant(stream_id))
        if increment:
            self.windows.peer_granted(stream_id, increment)
            self.send(window_update(stream_id, increment))

    @rule(size=st.integers(0, 70_000))
    def announces_a_window(self, size: int) -> None:
        self.windows.peer_announced(size)
        self.send(settings_frame({4: size}))

    @rule(kind=st.sampled_from([PING, PRIORITY, 0x7F]), stream_id=st.integers(1, 40))
    def sends_what_means_nothing(self, kind: int, stream_id: int) -> None:
        length = 5 if kind == PRIORITY else 8
        self.send(frame(kind, 0, 0 if kind == PING else stream_id, bytes(length)))

    # -- what the server does

    @precondition(lambda self: self.server.streams)
    @rule(which=choices, size=sizes)
    def server_sends(self, which: int, size: int) -> None:
        stream = self.answering(which)
        if not stream.local_done and stream.ending is None and size:
            if not stream.answered:
                self.server.send_headers(stream, b"\x88")
            self.server.send_data(stream, bytes(size * 5))
        self.settle()

    @precondition(lambda self: self.server.streams)
    @rule(which=choices, with_trailers=st.booleans(), size=sizes)
    def server_ends(self, which: int, with_trailers: bool, size: int) -> None:
        stream = self.answering(which)
        if stream.local_done or stream.ending is not None:
            return
        self.left_early.add(stream.id)
        if not stream.answered:
            self.server.send_response(stream, b"\x88", bytes(size), TRAILERS)
        else:
            self.server.end(stream, TRAILERS if with_trailers else END)
        self.settle()

    @precondition(lambda self: self.server.streams)
    @rule(which=choices)
    def server_resets(self, which: int) -> None:
        stream = self.answering(which)
        self.left_early.add(stream.id)
        self.server.reset(stream, ErrorCode.CANCEL)
        self.settle()

    @rule()
    def server_socket_is_full_or_not(self) -> None:
        if self.server.is_paused:
            self.server.resume()
        else:
            self.server.pause()
        self.settle()

    @precondition(lambda self: len(self.server.streams) > 2)
    @rule()
    def server_drains(self) -> None:
        self.is_drained = True
        self.server.drain()
        self.settle()

    # -- what holds

    @invariant()
    def the_windows_agree(self) -> None:
        if self.server.closing:
            assert self.is_drained
            return
        check_connection(self.server)
        assert self.windows.we_may_send[0] == self.server.send_window
        assert self.windows.peer_may_send[0] == self.server._receive_left
        assert self.sending.keys() <= self.server.streams.keys(), "a stream ended without a word"
        for stream_id, stream in self.server.streams.items():
            assert self.windows.we_may_send[stream_id] == stream.send_window
            assert self.windows.peer_may_send[stream_id] == stream.receive_left
            assert (stream_id in self.sending) == (not stream.remote_done)

    def teardown(self) -> None:
        """With room to send, all that was begun comes to its end."""
        server = self.server
        if server.is_paused:
            server.resume()
        for stream in [*server.streams.values()]:
            if not stream.local_done and stream.ending is None:
                server.end(stream, TRAILERS)
        self.windows.peer_announced(1 << 20)
        self.client.send(settings_frame({4: 1 << 20}), window_update(0, 1 << 30))
        for _ in range(20):
            server.resume()
        assert server.closing or not server.streams
        assert server.closing or server.buffered_bytes == 0


HonestClient.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
TestHonestClient = HonestClient.TestCase
