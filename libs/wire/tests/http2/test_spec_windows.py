"""Flow control of what we send, by section of RFC 9113: 6.9.1 and 6.9.2, from both sides."""

import pytest

from wire.grpc.framing import PREFIX_BYTES, frame_message
from wire.http2.frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame, window_update
from wire.http2.limits import Limits
from wire.http2.sender import END
from wire.http2.settings import DEFAULT_WINDOW_BYTES, settings_frame
from wire.testing.scripted_client import REQUEST_BLOCK, ScriptedClient
from wire.testing.scripted_peer import ScriptedPeer
from wire.testing.scripted_server import RESPONSE_BLOCK, ScriptedServer
from wire.testing.window_model import WindowModel

HEAD, TRAILERS = b"\x88", b"\x00\x01a\x01b"
LEFT = 535
"""What is left of the connection's window where nearly all of it was used."""


def content_of(peer: ScriptedPeer, stream_id: int) -> bytes:
    peer.read()
    return b"".join(found.payload for found in peer.said(DATA, stream_id))


def client_that_left_little() -> ScriptedClient:
    """Its connection window is nearly used up by stream 1; stream 3 has all of its own."""
    client = ScriptedClient().request(1, ends=True).request(3, ends=True)
    for _ in range(5):
        client.server.send_data(client.accepted[0], bytes((DEFAULT_WINDOW_BYTES - LEFT) // 5))
    client.read()
    client.frames.clear()
    return client


@pytest.mark.parametrize("way", ["data", "response", "end"])
def test_6_9_1_what_a_server_sends_waits_for_the_window_of_the_connection(way: str) -> None:
    client = client_that_left_little()
    server, stream = client.server, client.accepted[1]
    if way == "data":
        server.send_data(stream, bytes(1000))
    elif way == "end":
        server.send_data(stream, bytes(1000), END)
    else:
        server.send_response(stream, HEAD, bytes(1000), TRAILERS)
    assert len(content_of(client, 3)) == LEFT
    client.send(window_update(0, 2000))
    assert len(content_of(client, 3)) == 1000
    assert bool(client.frames[-1].flags & END_STREAM) == (way != "data")


def test_6_9_1_what_a_client_sends_waits_for_the_window_of_the_connection() -> None:
    server = ScriptedServer()
    first, second = server.call(ends=False), server.call(ends=False)
    for _ in range(5):
        server.client.send_data(first, bytes((DEFAULT_WINDOW_BYTES - LEFT) // 5))
    server.client.send_request(second, REQUEST_BLOCK, bytes(1000))
    assert len(content_of(server, 3)) == LEFT
    server.send(window_update(0, 2000))
    assert len(content_of(server, 3)) == 1000
    assert server.frames[-1].flags & END_STREAM


def test_6_9_1_a_window_of_one_byte_is_used_byte_by_byte() -> None:
    client = ScriptedClient().send(settings_frame({4: 1})).request(1, ends=True)
    client.server.send_response(client.accepted[0], HEAD, b"abc", TRAILERS)
    sizes = []
    for _ in range(3):
        client.read()
        sizes.append([len(found.payload) for found in client.said(DATA, 1)])
        client.send(window_update(1, 1))
    assert sizes == [[1], [1, 1], [1, 1, 1]]
    assert client.frames[-1].kind == HEADERS and client.frames[-1].flags & END_STREAM


def test_6_9_1_headers_do_not_wait_for_windows() -> None:
    client = ScriptedClient().send(settings_frame({4: 0})).request(1, ends=True)
    client.server.send_response(client.accepted[0], HEAD, b"", TRAILERS)
    client.read()
    assert client.frames[-1].flags & END_STREAM


def test_6_9_2_a_stream_in_line_whose_window_became_negative_waits_on() -> None:
    client = ScriptedClient().request(1, ends=True)
    server, [stream] = client.server, client.accepted
    server.send_data(stream, bytes(1000))
    server.pause()
    server.send_data(stream, bytes(500))
    client.send(settings_frame({4: 900}))
    server.resume()
    assert len(content_of(client, 1)) == 1000
    client.send(window_update(1, 102))
    assert len(content_of(client, 1)) == 1002


def peer_that_sends(way: str, limits: Limits) -> ScriptedPeer:
    """On stream 1, whose head has been sent."""
    if way == "to a server":
        return ScriptedClient(limits).request(1)
    server = ScriptedServer(limits)
    server.call()
    return server.send(frame(HEADERS, END_HEADERS, 1, RESPONSE_BLOCK))


@pytest.mark.parametrize("way", ["to a server", "to a client"])
def test_6_9_both_ends_count_the_same_windows_after_many_grants(way: str) -> None:
    limits = Limits(stream_window_bytes=20_000, connection_window_bytes=65_535)
    windows, peer = WindowModel(limits), peer_that_sends(way, limits)
    windows.open(1)
    stream = peer.connection.streams[1]
    for size in range(100, 9000, 100):
        windows.peer_sent(1, size)
        peer.send(frame(DATA, 0, 1, frame_message(bytes(size - PREFIX_BYTES))))
        windows.take(peer.frames)
        peer.frames.clear()
        assert windows.peer_may_send[0] == peer.connection._receive_left
        assert windows.peer_may_send[1] == stream.receive_left
