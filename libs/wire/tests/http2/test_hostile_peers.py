"""Floods and bombs: each is ended by GOAWAY with the code that its limit names, soon."""

from collections.abc import Iterator

import pytest

from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    rst_stream,
    window_update,
)
from wire.http2.limits import Limits
from wire.testing.scripted_client import REQUEST_BLOCK, ScriptedClient

CALM = ErrorCode.ENHANCE_YOUR_CALM


def heads(stream_ids: range) -> Iterator[bytes]:
    for stream_id in stream_ids:
        yield frame(HEADERS, END_HEADERS, stream_id, REQUEST_BLOCK)


def rapid_reset() -> Iterator[bytes]:
    """CVE-2023-44487: streams reset before they are answered."""
    for stream_id in range(1, 100_000, 2):
        yield frame(HEADERS, END_HEADERS, stream_id, REQUEST_BLOCK)
        yield rst_stream(stream_id, ErrorCode.CANCEL)


def made_you_reset() -> Iterator[bytes]:
    """CVE-2025-8671: streams that the server must reset for a fault of the client."""
    for stream_id in range(1, 100_000, 2):
        yield frame(HEADERS, END_HEADERS, stream_id, REQUEST_BLOCK)
        yield window_update(stream_id, 0)


def malformed_heads() -> Iterator[bytes]:
    for stream_id in range(1, 100_000, 2):
        yield frame(HEADERS, END_HEADERS, stream_id, b"\x00\x01A\x01b")


def refused_streams() -> Iterator[bytes]:
    return heads(range(1, 100_000, 2))


def continuation_flood() -> Iterator[bytes]:
    """CVE-2024-27316: a block without an end."""
    yield frame(HEADERS, 0, 1, REQUEST_BLOCK)
    while True:
        yield frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b" * 100)


def empty_continuations() -> Iterator[bytes]:
    yield frame(HEADERS, 0, 1, REQUEST_BLOCK)
    while True:
        yield frame(CONTINUATION, 0, 1)


def large_block() -> Iterator[bytes]:
    yield frame(HEADERS, 0, 1, bytes(16_000))
    yield frame(CONTINUATION, END_HEADERS, 1, bytes(16_000))


def hpack_bomb() -> Iterator[bytes]:
    """One entry of 4000 bytes, then references of one byte each."""
    entry = b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000
    yield frame(HEADERS, END_HEADERS, 1, entry + b"\xbe" * 9000)


def empty_data() -> Iterator[bytes]:
    yield from heads(range(1, 2))
    while True:
        yield frame(DATA, 0, 1)


def tail_of_a_refused_stream() -> Iterator[bytes]:
    """DATA on streams that were reset is ignored, but not for ever."""
    yield from heads(range(1, 4, 2))
    yield window_update(1, 0)
    while True:
        yield frame(DATA, 0, 1)


def window_updates() -> Iterator[bytes]:
    """On the connection, an open stream, one that is over and one that never was answered."""
    yield from heads(range(1, 4, 2))
    yield rst_stream(3, ErrorCode.CANCEL)
    while True:
        yield from (window_update(stream_id, 1) for stream_id in (0, 1, 3))


def repeated(part: bytes) -> Iterator[bytes]:
    while True:
        yield part


@pytest.mark.parametrize(
    ("flood", "most"),
    [
        pytest.param(rapid_reset(), 2100, id="rapid reset"),
        pytest.param(made_you_reset(), 2100, id="made you reset"),
        pytest.param(malformed_heads(), 1200, id="malformed heads"),
        pytest.param(refused_streams(), 1200, id="refused streams"),
        pytest.param(continuation_flood(), 40, id="CONTINUATION flood"),
        pytest.param(empty_continuations(), 12, id="empty CONTINUATIONs"),
        pytest.param(large_block(), 2, id="large block"),
        pytest.param(hpack_bomb(), 1, id="HPACK bomb"),
        pytest.param(repeated(frame(PING, 0, 0, bytes(8))), 1100, id="PING flood"),
        pytest.param(repeated(frame(SETTINGS, 0, 0)), 1100, id="SETTINGS flood"),
        pytest.param(repeated(frame(PRIORITY, 0, 1, bytes(5))), 1100, id="PRIORITY flood"),
        pytest.param(repeated(frame(0x20, 0, 0, b"")), 1100, id="unknown frames"),
        pytest.param(empty_data(), 1100, id="empty DATA"),
        pytest.param(window_updates(), 2100, id="WINDOW_UPDATE flood"),
        pytest.param(tail_of_a_refused_stream(), 1100, id="DATA on a stream that was reset"),
    ],
)
def test_a_flood_ends_the_connection(flood: Iterator[bytes], most: int) -> None:
    client = ScriptedClient(Limits(max_concurrent_streams=100, resets_burst=1000))
    assert client.send_each(flood) <= most
    assert client.goaway is CALM
    assert not client.server.streams


def test_envoy_may_reset_each_stream_that_was_answered() -> None:
    client = ScriptedClient()
    for stream_id in range(1, 20_001, 2):
        client.send(frame(HEADERS, END_HEADERS, stream_id, REQUEST_BLOCK))
        stream = client.accepted.pop()
        client.server.send_headers(stream, b"\x88")
        client.send(rst_stream(stream_id, ErrorCode.INTERNAL_ERROR))
    assert client.goaway is None
    assert not client.server.streams


def test_data_earns_control_frames() -> None:
    client = ScriptedClient(Limits(control_frames_burst=10, control_frames_per_s=0.0)).request(1)
    for _ in range(100):
        client.send(frame(DATA, 0, 1, b"x"), frame(PING, 0, 0, bytes(8)))
    assert client.goaway is None


def test_data_that_we_send_earns_window_updates() -> None:
    limits = Limits(window_updates_burst=20, window_updates_per_s=0.0)
    client = ScriptedClient(limits).request(1)
    [stream] = client.accepted
    for _ in range(100):
        client.server.send_data(stream, b"x")
        client.send(*[window_update(0, 1)] * 5, *[window_update(1, 1)] * 5)
    assert client.goaway is None
    client.send_each(window_update(0, 1) for _ in range(1100))
    assert client.goaway is CALM


def test_the_tails_of_many_streams_that_were_answered_early_do_no_harm() -> None:
    client = ScriptedClient(Limits(control_frames_burst=10, control_frames_per_s=0.0))
    for stream_id in range(1, 1001, 2):
        client.request(stream_id)
        client.server.send_response(client.accepted.pop(), b"\x88", b"no", b"\x00\x01a\x01b")
        client.send(frame(DATA, 0, stream_id, bytes(5)), frame(DATA, END_STREAM, stream_id))
    assert client.goaway is None
    client.send(frame(DATA, END_STREAM, 999))
    assert client.reset_of(999) is ErrorCode.STREAM_CLOSED


def test_only_the_last_of_many_resets_are_remembered() -> None:
    client = ScriptedClient()
    for stream_id in range(1, 6001, 2):
        client.request(stream_id)
        client.server.reset(client.accepted.pop(), ErrorCode.CANCEL)
    assert len(client.server._reset_by_us) == 1024
    client.send(frame(DATA, 0, 5999, b"x"))
    assert client.reset_of(5999) is ErrorCode.CANCEL and client.goaway is None


def test_a_budget_grows_again_with_time() -> None:
    client = ScriptedClient(Limits(control_frames_burst=10, control_frames_per_s=5.0))
    ping = frame(PING, 0, 0, bytes(8))
    for _ in range(50):
        client.send(ping)
        client.now += 0.2
    assert client.goaway is None
    client.send_each(ping for _ in range(20))
    assert client.goaway is CALM


def test_more_data_than_the_stream_window_resets_the_stream_only() -> None:
    client = ScriptedClient(Limits(stream_window_bytes=70_000)).request(1)
    client.accepted[0].unread = 70_000  # a reader that does not read
    client.send_each(frame(DATA, 0, 1, bytes(16_384)) for _ in range(5))
    assert client.reset_of(1) is ErrorCode.FLOW_CONTROL_ERROR
    assert client.goaway is None


def test_the_window_of_the_connection_is_granted_again_whoever_reads() -> None:
    client = ScriptedClient(Limits(stream_window_bytes=1 << 20, connection_window_bytes=65_535))
    client.request(1)
    client.send(*[frame(DATA, 0, 1, bytes(16_384)) for _ in range(5)])
    assert client.goaway is None
    assert len(client.said(WINDOW_UPDATE, 0)) == 2


def test_too_much_held_for_one_reader_resets_its_stream() -> None:
    client = ScriptedClient(Limits(max_buffered_bytes=1000)).request(1).request(3)
    server, stream = client.server, client.accepted[0]
    server.hold(stream, 900)
    assert server.buffered_bytes == 900
    client.send(rst_stream(1, ErrorCode.CANCEL))
    assert server.buffered_bytes == 0
