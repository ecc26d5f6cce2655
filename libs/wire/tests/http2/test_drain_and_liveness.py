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
)
from wire.http2.limits import Limits
from wire.http2.liveness import Liveness
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
