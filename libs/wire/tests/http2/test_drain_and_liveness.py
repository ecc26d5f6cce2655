"""How connections end: drained in two steps, stalled, silent, idle, never greeted."""

from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    ACK,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    MAX_STREAM_ID,
    PING,
    frame,
    read_uint32,
    window_update,
)
from wire.http2.limits import Limits
from wire.http2.liveness import Liveness
from wire.http2.settings import settings_frame
from wire.testing.scripted_client import REQUEST_BLOCK, ScriptedClient


def is_closing(client: ScriptedClient) -> bool:
    return client.server.closing


def last_ids(client: ScriptedClient) -> list[int]:
    return [read_uint32(found.payload) for found in client.said(GOAWAY)]


def pong(client: ScriptedClient) -> None:
    client.send(frame(PING, ACK, 0, client.said(PING)[-1].payload))


def test_6_8_a_drain_takes_what_was_under_way_and_refuses_what_comes_after() -> None:
    client = ScriptedClient().request(1)
    client.server.drain()
    client.read()
    assert last_ids(client) == [MAX_STREAM_ID]
    client.request(3)  # sent before the client had read the GOAWAY
    pong(client)
    assert last_ids(client) == [MAX_STREAM_ID, 3]
    client.request(5)
    assert client.reset_of(5) is ErrorCode.REFUSED_STREAM
    for stream in client.accepted:
        client.server.end(stream, b"\x88")
    assert [stream.id for stream in client.accepted] == [1, 3]
    assert is_closing(client)


def test_a_drain_without_streams_ends_when_the_client_has_heard_of_it() -> None:
    client = ScriptedClient()
    client.server.drain()
    client.read()
    assert not is_closing(client)
    pong(client)
    assert is_closing(client)


def watched(limits: Limits, *, greets: bool = True) -> tuple[ScriptedClient, Liveness]:
    client = ScriptedClient(limits, greets=greets)
    return client, Liveness(client.server, client.now)


def test_a_client_that_never_says_settings_is_left() -> None:
    client, liveness = watched(Limits(handshake_timeout_s=10.0), greets=False)
    liveness.tick(client.now + 9.0)
    assert not is_closing(client)
    liveness.tick(client.now + 11.0)
    client.read()
    assert client.goaway is ErrorCode.SETTINGS_TIMEOUT


def test_a_header_block_without_an_end_does_not_last() -> None:
    client, liveness = watched(Limits(stall_timeout_s=60.0))
    client.send(frame(HEADERS, 0, 1, REQUEST_BLOCK))
    liveness.tick(client.now + 61.0)
    client.read()
    assert client.goaway is ErrorCode.ENHANCE_YOUR_CALM


def test_output_that_nobody_reads_does_not_last() -> None:
    client, liveness = watched(Limits(stall_timeout_s=60.0))
    client.server.pause()
    liveness.tick(client.now)
    client.server.resume()
    liveness.tick(client.now + 61.0)
    client.server.pause()
    liveness.tick(client.now + 62.0)
    client.read()
    assert client.goaway is None
    liveness.tick(client.now + 123.0)
    client.read()
    assert client.goaway is ErrorCode.ENHANCE_YOUR_CALM


def test_a_socket_that_is_full_each_time_but_moves_is_not_stalled() -> None:
    client, liveness = watched(Limits(stall_timeout_s=60.0))
    client.request(1)
    [stream] = client.accepted
    start = client.now
    for minute in range(10):
        client.server.pause()
        client.server.send_data(stream, b"x")
        liveness.tick(start + 50.0 * minute)
        client.server.resume()
    client.server.pause()
    for later in (500.0, 561.0):
        liveness.tick(start + later)
        client.read()
    assert client.goaway is ErrorCode.ENHANCE_YOUR_CALM


def test_a_window_of_the_connection_that_does_not_grow_is_a_stall() -> None:
    client, liveness = watched(Limits(stall_timeout_s=60.0))
    client.send(settings_frame({4: 1 << 20})).request(1)
    client.server.send_data(client.accepted[0], bytes(100_000))
    for later in (0.0, 59.0):
        liveness.tick(client.now + later)
    client.send(window_update(0, 10_000))
    for later in (61.0, 120.0):
        liveness.tick(client.now + later)
    assert not is_closing(client)
    liveness.tick(client.now + 122.0)
    client.read()
    assert client.goaway is ErrorCode.ENHANCE_YOUR_CALM


def test_a_stream_that_its_peer_does_not_read_is_reset_and_others_go_on() -> None:
    limits = Limits(stream_stall_timeout_s=60.0)
    client, liveness = watched(limits)
    client.send(settings_frame({4: 10})).request(1).request(3)
    stuck, slow = client.accepted
    client.server.send_data(stuck, bytes(50))
    client.server.send_data(slow, bytes(50))
    for later in (0.0, 50.0):
        liveness.tick(client.now + later)
    client.send(window_update(3, 10))
    for later in (55.0, 61.0):
        liveness.tick(client.now + later)
    client.read()
    assert client.reset_of(1) is ErrorCode.ENHANCE_YOUR_CALM
    assert stuck.events[-1] == ("reset", ErrorCode.ENHANCE_YOUR_CALM)
    assert client.reset_of(3) is None
    liveness.tick(client.now + 116.0)
    client.read()
    assert client.reset_of(3) is ErrorCode.ENHANCE_YOUR_CALM
    assert client.goaway is None


def test_streams_may_be_left_unread_where_no_limit_is_set() -> None:
    client, liveness = watched(Limits(stream_stall_timeout_s=None))
    client.send(settings_frame({4: 10})).request(1)
    client.server.send_data(client.accepted[0], bytes(50))
    for later in (0.0, 1000.0):
        liveness.tick(client.now + later)
    client.read()
    assert client.reset_of(1) is None


def test_an_idle_connection_is_closed_and_one_with_streams_is_not() -> None:
    client, liveness = watched(Limits(idle_timeout_s=30.0))
    client.send(frame(HEADERS, END_HEADERS, 1, REQUEST_BLOCK))
    liveness.tick(client.now + 100.0)
    assert not is_closing(client)
    client.server.reset(client.accepted[0], ErrorCode.CANCEL)
    liveness.tick(client.now + 131.0)
    client.read()
    assert client.goaway is ErrorCode.NO_ERROR


def test_keepalive_asks_in_silence_and_cuts_off_who_does_not_answer() -> None:
    client, liveness = watched(Limits(keepalive_interval_s=10.0, keepalive_timeout_s=5.0))
    client.request(1)
    start = client.now
    liveness.tick(start + 11.0)
    client.read()
    client.now = start + 12.0
    pong(client)
    liveness.tick(start + 18.0)
    assert not is_closing(client)
    liveness.tick(start + 23.0)
    liveness.tick(start + 29.0)
    assert is_closing(client)
    assert client.accepted[0].events[-1] == ("reset", None)
