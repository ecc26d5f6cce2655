"""Random bytes, random steps, and sound conversations spoiled: whatever comes, a connection stays
in order or ends by GOAWAY, and never raises."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.grpc.framing import frame_message
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
    SETTINGS,
    frame,
    window_update,
)
from wire.http2.settings import settings_frame
from wire.testing.fuzz_targets import LIMITS, TARGETS
from wire.testing.invariants import OutputWatch, check_connection
from wire.testing.scripted_client import REQUEST_BLOCK, ScriptedClient
from wire.testing.scripted_peer import ScriptedPeer
from wire.testing.scripted_server import OK_BLOCK, RESPONSE_BLOCK, ScriptedServer

LAST = END_HEADERS | END_STREAM
MESSAGE = frame_message(b"abc")


def frames_on(stream_id: int, head: bytes) -> list[bytes]:
    """What may be said about one stream, in order."""
    return [
        frame(HEADERS, END_HEADERS, stream_id, head),
        frame(HEADERS, 0, stream_id, head[:7]) + frame(CONTINUATION, 4, stream_id, head[7:]),
        frame(DATA, 0, stream_id, MESSAGE * 20),
        frame(DATA, PADDED, stream_id, b"\x03" + MESSAGE + bytes(3)),
        frame(DATA, END_STREAM, stream_id, MESSAGE),
        window_update(stream_id, 100),
        frame(PRIORITY, 0, stream_id, bytes(5)),
        frame(HEADERS, LAST, stream_id, OK_BLOCK),
        frame(RST_STREAM, 0, stream_id, b"\0\0\0\x08"),
    ]


CONNECTION_FRAMES = [
    window_update(0, 1000),
    settings_frame({1: 0, 4: 100, 5: 1 << 15}),
    frame(SETTINGS, ACK, 0),
    frame(PING, 0, 0, b"12345678"),
    frame(GOAWAY, 0, 0, b"\0\0\0\x03" + bytes(4)),
]
spoils = st.tuples(st.sampled_from(["flip", "cut", "double", "swap", "none"]), st.integers(0, 9999))


def spoiled(parts: list[bytes], spoil: tuple[str, int]) -> list[bytes]:
    """The conversation with one thing wrong."""
    kind, where = spoil
    index = where % len(parts)
    part = parts[index]
    if kind == "flip":
        position = where % len(part)
        part = part[:position] + bytes((part[position] ^ 1 << where % 8,)) + part[position + 1 :]
    elif kind == "cut":
        part = part[: where % len(part)]
    elif kind == "double":
        part *= 2
    elif kind == "swap":
        return [*parts[:index], *parts[index + 1 :], part]
    return [*parts[:index], part, *parts[index + 1 :]]


def conversations(head: bytes) -> st.SearchStrategy[list[bytes]]:
    on_streams = [part for stream_id in (1, 3, 5) for part in frames_on(stream_id, head)]
    parts = st.lists(st.sampled_from(on_streams + CONNECTION_FRAMES), min_size=1, max_size=25)
    return st.builds(spoiled, parts, spoils)


def play(peer: ScriptedPeer, parts: list[bytes]) -> None:
    watch = OutputWatch()
    for part in parts:
        peer.send(part)
        check_connection(peer.connection)
        watch.check(peer.frames, peer.connection)
        if peer.connection.closing:
            # A client also closes by itself, when it has no more to wait for after a GOAWAY.
            assert peer.goaway is not None or isinstance(peer, ScriptedServer)
            break
        peer.frames.clear()


@settings(deadline=None, max_examples=150)
@given(conversations(REQUEST_BLOCK))
def test_a_server_survives_a_spoiled_conversation(parts: list[bytes]) -> None:
    play(ScriptedClient(LIMITS), parts)


@settings(deadline=None, max_examples=150)
@given(conversations(RESPONSE_BLOCK))
def test_a_client_survives_a_spoiled_conversation(parts: list[bytes]) -> None:
    server = ScriptedServer(LIMITS)
    calls = [server.call(), server.call(ends=False), server.call()]
    play(server, parts)
    server.client.cut_off("lost")
    assert all(len(call.ends) == 1 for call in calls)


@pytest.mark.parametrize("name", TARGETS)
@settings(deadline=None, max_examples=100)
@given(data=st.binary(max_size=300))
def test_any_steps_leave_a_connection_in_order(name: str, data: bytes) -> None:
    TARGETS[name](data)
