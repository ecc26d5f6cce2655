"""Whatever a server does that follows the rules, the client takes; the windows agree all along."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wire.grpc.framing import frame_message
from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    RST_STREAM,
    frame,
    rst_stream,
    window_update,
)
from wire.http2.limits import Limits
from wire.http2.settings import settings_frame
from wire.status import RpcStatus
from wire.testing.invariants import OutputWatch, check_connection
from wire.testing.scripted_server import OK_BLOCK, RESPONSE_BLOCK, RecordingCall, ScriptedServer
from wire.testing.window_model import WindowModel

LIMITS = Limits(stream_window_bytes=20_000, connection_window_bytes=70_000)

choices = st.integers(0, 99)
sizes = st.one_of(st.integers(0, 40), st.integers(0, 16_000))
"""Of messages: a few large ones use up half of the connection's window."""


class HonestServer(RuleBasedStateMachine):
    """`answering`: calls that the server has not ended, and whether they have their head."""

    def __init__(self) -> None:
        super().__init__()
        self.server = ScriptedServer(LIMITS)
        self.client = self.server.client
        self.windows, self.watch = WindowModel(LIMITS), OutputWatch()
        self.answering: dict[int, bool] = {}
        self.messages: dict[int, int] = {}
        self.left_early: set[int] = set()
        """Calls that the client may reset: it gave them up, or they were answered too soon."""

    def settle(self) -> None:
        """Read what the client said."""
        self.server.read()
        said = [*self.server.frames]
        self.server.frames.clear()
        self.watch.check(said, self.client)
        self.windows.take(said)
        for found in said:
            if found.kind == RST_STREAM:
                assert found.stream_id in self.left_early, "a reset for no fault"
                self.answering.pop(found.stream_id, None)

    def send(self, *parts: bytes) -> None:
        self.server.send(*parts)
        self.settle()

    def choose(self, which: int, *, has_head: bool) -> int | None:
        found = [key for key, has in self.answering.items() if has is has_head]
        return found[which % len(found)] if found else None

    def call_of(self, stream_id: int) -> RecordingCall:
        return self.server.calls[stream_id // 2]

    def ends(self, stream_id: int) -> None:
        self.left_early.add(stream_id)
        del self.answering[stream_id]

    # -- what the client does

    @precondition(lambda self: len(self.client.streams) < 6)
    @rule(ends=st.booleans())
    def calls(self, ends: bool) -> None:
        call = self.server.call(ends=ends)
        self.windows.open(call.id)
        self.answering[call.id] = False
        self.messages[call.id] = 0

    @precondition(lambda self: self.server.calls)
    @rule(which=choices, size=sizes, is_last=st.booleans())
    def client_sends(self, which: int, size: int, is_last: bool) -> None:
        call = self.server.calls[which % len(self.server.calls)]
        call.send_message(bytes(size * 5), is_last=is_last)
        self.settle()

    @precondition(lambda self: self.client.streams)
    @rule(which=choices, expires=st.booleans())
    def client_leaves(self, which: int, expires: bool) -> None:
        stream_id = [*self.client.streams][which % len(self.client.streams)]
        self.left_early.add(stream_id)
        call = self.call_of(stream_id)
        if expires:
            call.expire()
        else:
            call.give_up(RpcStatus.CANCELLED, "left")
        self.settle()

    @rule()
    def client_socket_is_full_or_not(self) -> None:
        if self.client.is_paused:
            self.client.resume()
        else:
            self.client.pause()
        self.settle()

    # -- what the server does

    @rule(which=choices, cut=st.integers(0, len(RESPONSE_BLOCK)), informs=st.booleans())
    def sends_a_head(self, which: int, cut: int, informs: bool) -> None:
        stream_id = self.choose(which, has_head=False)
        if stream_id is None:
            return
        if informs:
            self.send(frame(HEADERS, END_HEADERS, stream_id, b"\x08\x03103"))
        self.answering[stream_id] = True
        self.send(
            frame(HEADERS, 0, stream_id, RESPONSE_BLOCK[:cut]),
            frame(CONTINUATION, END_HEADERS, stream_id, RESPONSE_BLOCK[cut:]),
        )

    @rule(which=choices, size=sizes, padding=st.integers(0, 9))
    def sends_a_message(self, which: int, size: int, padding: int) -> None:
        stream_id = self.choose(which, has_head=True)
        if stream_id is None:
            return
        flags, payload = 0, frame_message(bytes(size))
        if padding:
            flags, payload = PADDED, bytes((padding,)) + payload + bytes(padding)
        may = min(self.windows.peer_may_send[stream_id], self.windows.peer_may_send[0])
        if len(payload) <= may:
            self.messages[stream_id] += 1
            self.windows.peer_sent(stream_id, len(payload))
            self.send(frame(DATA, flags, stream_id, payload))

    @rule(which=choices)
    def sends_trailers(self, which: int) -> None:
        stream_id = self.choose(which, has_head=True)
        if stream_id is not None:
            self.ends(stream_id)
            self.send(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, OK_BLOCK))
            assert self.call_of(stream_id).ends == [RpcStatus.OK]

    @rule(which=choices)
    def answers_by_trailers_alone(self, which: int) -> None:
        stream_id = self.choose(which, has_head=False)
        if stream_id is not None:
            self.ends(stream_id)
            block = RESPONSE_BLOCK + OK_BLOCK
            self.send(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, block))
            assert self.call_of(stream_id).ends == [RpcStatus.OK]

    @rule(which=choices, has_head=st.booleans())
    def resets(self, which: int, has_head: bool) -> None:
        stream_id = self.choose(which, has_head=has_head)
        if stream_id is not None:
            del self.answering[stream_id]
            self.send(rst_stream(stream_id, ErrorCode.REFUSED_STREAM))
            assert self.call_of(stream_id).was_refused is not has_head

    @rule(which=choices, increment=st.integers(1, 5000))
    def grants(self, which: int, increment: int) -> None:
        stream_id = [0, *self.client.streams][which % (1 + len(self.client.streams))]
        increment = min(increment, self.windows.room_for_grant(stream_id))
        if increment:
            self.windows.peer_granted(stream_id, increment)
            self.send(window_update(stream_id, increment))

    @rule(size=st.integers(0, 70_000))
    def announces_a_window(self, size: int) -> None:
        self.windows.peer_announced(size)
        self.send(settings_frame({4: size}))

    @rule(kind=st.sampled_from([PING, 0x7F]))
    def sends_what_means_nothing(self, kind: int) -> None:
        self.send(frame(kind, 0, 0, bytes(8)))

    # -- what holds

    @invariant()
    def the_windows_agree(self) -> None:
        client = self.client
        assert not client.closing
        check_connection(client)
        assert self.windows.we_may_send[0] == client.send_window
        assert self.windows.peer_may_send[0] == client._receive_left
        for stream_id, stream in client.streams.items():
            assert self.windows.we_may_send[stream_id] == stream.send_window
            assert self.windows.peer_may_send[stream_id] == stream.receive_left
        for call in self.server.calls:
            assert len(call.messages) == self.messages[call.id]
            assert len(call.ends) == (0 if call.id in self.answering else 1)

    def teardown(self) -> None:
        """The connection is lost: each call is over, once."""
        self.client.cut_off("lost")
        assert not self.client.streams
        assert all(len(call.ends) == 1 for call in self.server.calls)


HonestServer.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
TestHonestServer = HonestServer.TestCase
