"""Flow control of what we send, and the state of the streams that send it."""

from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    window_update,
)
from wire.http2.limits import Limits
from wire.http2.sender import END
from wire.http2.server_connection import ServerConnection
from wire.http2.settings import settings_frame
from wire.testing.scripted_client import RecordingStream, ScriptedClient


def serving(window: int, *stream_ids: int) -> tuple[ScriptedClient, ServerConnection]:
    """A client whose streams have `window` bytes for us."""
    client = ScriptedClient().send(settings_frame({4: window}))
    for stream_id in stream_ids:
        client.request(stream_id, ends=True)
    client.frames.clear()
    return client, client.server


def data_of(client: ScriptedClient, stream_id: int) -> bytes:
    client.read()
    return b"".join(frame.payload for frame in client.said(DATA, stream_id))


def test_data_stops_at_the_window_and_goes_on_when_it_grows() -> None:
    client, server = serving(10, 1)
    [stream] = client.accepted
    server.send_headers(stream, b"\x88")
    server.send_data(stream, b"0123456789abcdef", END)
    assert data_of(client, 1) == b"0123456789"
    assert not stream.local_done
    client.send(window_update(1, 3))
    assert data_of(client, 1) == b"0123456789abc"
    client.send(window_update(1, 100))
    assert data_of(client, 1) == b"0123456789abcdef"
    assert client.said(DATA, 1)[-1].flags & END_STREAM
    assert not server.streams


def test_trailers_wait_for_the_data_before_them() -> None:
    client, server = serving(4, 1)
    [stream] = client.accepted
    server.send_response(stream, b"\x88", b"12345678", b"\x00\x01a\x01b")
    client.read()
    assert [frame.kind for frame in client.frames] == [HEADERS, DATA]
    client.send(window_update(1, 4))
    assert [frame.kind for frame in client.frames] == [HEADERS, DATA, DATA, HEADERS]
    assert client.frames[-1].flags & END_STREAM


def test_6_9_2_a_smaller_initial_window_may_make_a_window_negative() -> None:
    client, server = serving(100, 1)
    [stream] = client.accepted
    server.send_data(stream, bytes(80))
    client.send(settings_frame({4: 10}))
    assert stream.send_window == -70
    server.send_data(stream, b"late")
    client.send(window_update(1, 70))
    assert data_of(client, 1) == bytes(80)
    client.send(window_update(1, 4))
    assert data_of(client, 1).endswith(b"late")


def test_6_9_2_a_larger_initial_window_lets_waiting_streams_go_on() -> None:
    client, server = serving(0, 1)
    server.send_data(client.accepted[0], b"waits")
    assert data_of(client, 1) == b""
    client.send(settings_frame({4: 100}))
    assert data_of(client, 1) == b"waits"


def test_6_5_3_settings_are_acknowledged_ahead_of_the_data_that_they_allow() -> None:
    """A peer may hold us to its old windows and frame sizes until it has read our ACK."""
    client, server = serving(10, 1)
    server.send_data(client.accepted[0], bytes(60_000), END)
    client.read()
    client.frames.clear()
    client.send(settings_frame({4: 60_000, 5: 32_768}))
    assert [frame.kind for frame in client.frames] == [SETTINGS, DATA, DATA]
    assert client.frames[0].flags == ACK
    assert len(client.frames[1].payload) == 32_768


def test_streams_take_turns_on_the_window_of_the_connection() -> None:
    client, server = serving(1 << 20, 1, 3)
    large, small = client.accepted
    server.send_data(large, bytes(200_000), END)
    server.send_data(small, bytes(30_000), END)
    for _ in range(10):
        client.send(window_update(0, 16_384))
    assert small.local_done and not large.local_done


def test_a_stream_that_waits_for_its_own_window_does_not_hold_up_others() -> None:
    client, server = serving(5, 1, 3)
    stuck, other = client.accepted
    server.send_data(stuck, bytes(50), END)
    server.send_data(other, b"12345", END)
    assert data_of(client, 3) == b"12345"
    assert other.local_done and not stuck.local_done


def test_a_full_socket_holds_back_data_and_nothing_else() -> None:
    client, server = serving(1 << 20, 1)
    [stream] = client.accepted
    server.pause()
    server.send_headers(stream, b"\x88")
    server.send_data(stream, b"data", END)
    client.read()
    assert [frame.kind for frame in client.frames] == [HEADERS]
    server.resume()
    assert data_of(client, 1) == b"data"


def test_an_end_without_data_needs_no_window() -> None:
    client, server = serving(0, 1)
    server.send_data(client.accepted[0], b"", END)
    assert client.accepted[0].local_done


def test_8_1_an_answer_before_the_end_of_its_request_asks_for_no_more_of_it() -> None:
    client = ScriptedClient().request(1)
    client.server.send_response(client.accepted[0], b"\x88", b"no", b"\x00\x01a\x01b")
    client.read()
    assert client.reset_of(1) is ErrorCode.NO_ERROR
    assert not client.server.streams


def test_a_block_over_the_largest_frame_is_continued() -> None:
    client, server = serving(100, 1)
    server.send_headers(client.accepted[0], b"\x00\x01a\x7f\xa1\xb8\x02" + bytes(40_000))
    client.read()
    assert [frame.kind for frame in client.frames] == [HEADERS, CONTINUATION, CONTINUATION]


def test_hpack_4_2_a_peer_that_shrinks_its_table_is_told_that_ours_is_empty() -> None:
    client, server = serving(100, 1)
    client.send(settings_frame({1: 0}))
    server.send_headers(client.accepted[0], b"\x88")
    client.read()
    assert client.said(HEADERS)[0].payload == b"\x20\x88"


def test_what_is_received_is_granted_again_when_it_is_read() -> None:
    client = ScriptedClient(Limits(stream_window_bytes=1000)).request(1)
    stream: RecordingStream = client.accepted[0]
    stream.unread = 600  # delivered below, and kept by a reader
    client.send(b"".join([b"\x00\x02\x58\x00\x00\x00\x00\x00\x01", bytes(600)]))
    assert client.server.streams[1].receive_left == 400
    stream.unread = 0
    client.server.replenish(stream)
    assert stream.receive_left == 1000
    client.read()
    assert not client.said(RST_STREAM)
