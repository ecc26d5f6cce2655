"""A call as its server sees it, without a network: limits, early ends, and what may follow what."""

import pytest

from wire import Limits, RpcStatus
from wire.grpc.framing import frame_message
from wire.grpc.heads import RESPONSE_HEAD, request_head_of
from wire.grpc.server_stream import ServerStream
from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PRIORITY_FLAG,
    frame,
    window_update,
)
from wire.http2.header_encoding import encode_fields
from wire.http2.hpack_cache import HeaderBlock, HeaderBlockReader
from wire.http2.server_connection import ServerConnection
from wire.http2.settings import settings_frame
from wire.testing.scripted_client import ScriptedClient

MOST = 1000


class Noting(ServerStream):
    def __init__(self, connection: ServerConnection, stream_id: int, block: HeaderBlock) -> None:
        super().__init__(connection, stream_id, request_head_of(block), MOST)
        self.told: list[object] = []

    def on_message(self, message: bytes) -> None:
        self.told.append(message)

    def on_end(self) -> None:
        self.told.append("end")

    def on_reset(self, code: ErrorCode | None) -> None:
        self.told.append(code)


class Peer:
    """A client with one call open, whose window for answers is `window` bytes."""

    def __init__(self, *, window: int = 65_535, limits: Limits | None = None) -> None:
        self._streams: list[Noting] = []
        self.client = ScriptedClient(limits, accept=self._accept).send(settings_frame({4: window}))
        self.client.request(1)
        self.client.frames.clear()
        [self.stream] = self._streams

    def _accept(self, connection: ServerConnection, stream_id: int, block: HeaderBlock) -> Noting:
        self._streams.append(Noting(connection, stream_id, block))
        return self._streams[-1]

    def status(self) -> tuple[int, str]:
        """The status that ends the answer, and its message."""
        self.client.read()
        reader = HeaderBlockReader(max_list_bytes=10_000)
        found = self.client.said(HEADERS, 1)[-1]
        assert found.flags & END_STREAM
        fields = dict(reader.read(found.payload).fields)
        return int(fields[b"grpc-status"]), fields.get(b"grpc-message", b"").decode()

    def data(self) -> bytes:
        self.client.read()
        return b"".join(found.payload for found in self.client.said(DATA, 1))


@pytest.fixture
def peer() -> Peer:
    return Peer()


def test_messages_that_come_in_one_frame_are_told_one_by_one(peer: Peer) -> None:
    peer.client.send(frame(DATA, END_STREAM, 1, frame_message(b"a") + frame_message(b"b")))
    assert peer.stream.told == [b"a", b"b", "end"]


def test_a_message_over_the_limit_ends_the_call_and_tells_its_handler(peer: Peer) -> None:
    peer.client.send(frame(DATA, 0, 1, b"\0\0\0\x03\xe9"))
    assert peer.status()[0] == RpcStatus.RESOURCE_EXHAUSTED
    assert peer.client.reset_of(1) is ErrorCode.NO_ERROR
    assert peer.stream.told == [ErrorCode.CANCEL]


def test_an_answer_over_the_limit_is_not_sent(peer: Peer) -> None:
    peer.stream.reply(bytes(MOST + 1))
    assert peer.status()[0] == RpcStatus.RESOURCE_EXHAUSTED
    assert peer.data() == b""


def test_a_message_over_the_limit_in_a_stream_of_them_ends_the_call(peer: Peer) -> None:
    peer.stream.send_message(b"first")
    peer.stream.send_messages([b"second", bytes(MOST + 1)])
    assert peer.data() == frame_message(b"first")
    assert peer.status()[0] == RpcStatus.RESOURCE_EXHAUSTED


def test_several_messages_go_in_one_frame(peer: Peer) -> None:
    peer.stream.send_messages([b"a", b"b"])
    peer.client.read()
    assert [found.kind for found in peer.client.frames] == [HEADERS, DATA]
    assert peer.data() == frame_message(b"a") + frame_message(b"b")


def test_nothing_is_sent_after_the_end(peer: Peer) -> None:
    peer.stream.finish(RpcStatus.NOT_FOUND, "nothing")
    peer.stream.send_message(b"late")
    peer.stream.reply(b"late")
    peer.stream.finish()
    peer.stream.abort(RpcStatus.INTERNAL)
    assert peer.status() == (RpcStatus.NOT_FOUND, "nothing")
    assert peer.data() == b""


def test_the_status_follows_what_waits_for_the_window() -> None:
    peer = Peer(window=3)
    peer.stream.send_message(b"abc")
    peer.stream.finish()
    assert peer.data() == b"\0\0\0"
    peer.client.send(window_update(1, 100))
    assert peer.data() == frame_message(b"abc")
    assert peer.status() == (RpcStatus.OK, "")


def test_a_call_that_is_ended_now_drops_what_waits_and_says_no_status() -> None:
    peer = Peer(window=3)
    peer.stream.send_message(b"abc")
    peer.stream.abort(RpcStatus.DEADLINE_EXCEEDED)
    peer.client.read()
    assert peer.client.reset_of(1) is ErrorCode.CANCEL
    assert not peer.client.server.streams


def test_who_does_not_wait_for_a_slow_peer_is_stopped() -> None:
    peer = Peer(window=0, limits=Limits(max_unsent_bytes=5000))
    for _ in range(10):
        peer.stream.send_message(bytes(MOST))
    peer.client.read()
    assert peer.client.reset_of(1) is ErrorCode.ENHANCE_YOUR_CALM
    assert peer.stream.told == [ErrorCode.ENHANCE_YOUR_CALM]


def test_a_part_of_a_message_is_accounted_for_until_it_is_whole(peer: Peer) -> None:
    whole = frame_message(bytes(100))
    peer.client.send(frame(DATA, 0, 1, whole[:50]))
    assert peer.client.server.buffered_bytes == 50
    peer.client.send(frame(DATA, 0, 1, whole[50:]))
    assert peer.client.server.buffered_bytes == 0


def test_too_many_parts_of_messages_reset_the_stream() -> None:
    peer = Peer(limits=Limits(max_buffered_bytes=40))
    peer.client.send(frame(DATA, 0, 1, frame_message(bytes(100))[:50]))
    assert peer.client.reset_of(1) is ErrorCode.ENHANCE_YOUR_CALM
    assert peer.client.server.buffered_bytes == 0


def test_trailers_of_a_request_are_its_end(peer: Peer) -> None:
    block = encode_fields([(b"x-checksum", b"1")])
    peer.client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert peer.stream.told == ["end"]


@pytest.mark.parametrize(
    ("flags", "block"),
    [
        (END_HEADERS, encode_fields([(b"x", b"1")])),
        (END_HEADERS | END_STREAM, encode_fields([(b":path", b"/")])),
        (END_HEADERS | END_STREAM | PRIORITY_FLAG, bytes(5) + RESPONSE_HEAD),
    ],
    ids=["without END_STREAM", "with a pseudo-field", "a response"],
)
def test_8_1_trailers_out_of_place_are_a_fault_of_the_stream(
    peer: Peer, flags: int, block: bytes
) -> None:
    peer.client.send(frame(HEADERS, flags, 1, block))
    assert peer.client.reset_of(1) is ErrorCode.PROTOCOL_ERROR
    assert peer.stream.told == [ErrorCode.PROTOCOL_ERROR]


def test_a_request_that_is_no_call_gets_an_http_status(peer: Peer) -> None:
    peer.stream.refuse_http(b"415")
    peer.client.read()
    assert peer.client.said(HEADERS, 1)[0].payload.endswith(b"415")
