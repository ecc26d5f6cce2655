"""Frames, by section of RFC 9113: sections 3, 4, 6 and 7, from the side of a client that has opened
stream 1."""

import pytest

from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_STREAM_ID,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    goaway,
    pack_uint32,
    rst_stream,
    window_update,
)
from wire.http2.header_encoding import encode_fields
from wire.http2.settings import ENABLE_PUSH, settings_frame
from wire.status import RpcStatus
from wire.testing.scripted_server import OK_BLOCK, RESPONSE_BLOCK, RESPONSE_FIELDS, ScriptedServer
from wire.testing.spec_case import Case

PROTOCOL, FLOW = ErrorCode.PROTOCOL_ERROR, ErrorCode.FLOW_CONTROL_ERROR
SIZE, GONE = ErrorCode.FRAME_SIZE_ERROR, ErrorCode.STREAM_CLOSED
COMPRESSION = ErrorCode.COMPRESSION_ERROR
LAST = END_HEADERS | END_STREAM
HEAD = frame(HEADERS, END_HEADERS, 1, RESPONSE_BLOCK)
PART = frame(DATA, 0, 1, b"\0\0\0\0\x02a")
END = frame(HEADERS, LAST, 1, OK_BLOCK)
RESET = rst_stream(1, ErrorCode.CANCEL)


def head(*fields: tuple[bytes, bytes], without: bytes = b"") -> bytes:
    """The head of an answer with some fields more, or one less."""
    kept = tuple(item for item in RESPONSE_FIELDS if item[0] != without)
    return frame(HEADERS, END_HEADERS, 1, encode_fields(kept + fields))


def block(raw: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS, 1, raw)


CASES = [
    # Frames
    Case("4.1", "a frame of an unknown type is ignored", (frame(0x16, 0, 0, bytes(8)),)),
    Case("4.1", "undefined flags are ignored", (frame(PING, 0xFE, 0, bytes(8)),), answered=(PING,)),
    Case(
        "4.1",
        "the reserved bit is ignored",
        (frame(PING, 0, 0x8000_0000, bytes(8)),),
        answered=(PING,),
    ),
    Case(
        "4.2",
        "DATA up to the largest frame is taken",
        (HEAD, frame(DATA, 0, 1, b"\0\0\0\xff\xff" + bytes(16379))),
    ),
    Case("4.2", "DATA over it", (HEAD, frame(DATA, 0, 1, bytes(16385))), SIZE),
    Case("4.2", "HEADERS over it", (block(bytes(16385)),), SIZE),
    Case("4.3", "a block that cannot be decompressed", (block(b"\xff" * 6),), COMPRESSION),
    Case(
        "4.3",
        "another frame within a block",
        (frame(HEADERS, 0, 1, RESPONSE_BLOCK), frame(PRIORITY, 0, 1, bytes(5))),
        PROTOCOL,
    ),
    # Frame definitions
    Case("6.1", "DATA on stream 0", (frame(DATA, 0, 0, b"x"),), PROTOCOL),
    Case("6.1", "DATA of too much padding", (HEAD, frame(DATA, PADDED, 1, b"\x06abcde")), PROTOCOL),
    Case("6.1", "DATA padded", (HEAD, frame(DATA, PADDED, 1, b"\x02\0\0\0\0\x02a\0\0"))),
    Case("6.2", "HEADERS on stream 0", (frame(HEADERS, END_HEADERS, 0, RESPONSE_BLOCK),), PROTOCOL),
    Case(
        "6.2",
        "HEADERS of too much padding",
        (frame(HEADERS, PADDED | END_HEADERS, 1, b"\x09abc"),),
        PROTOCOL,
    ),
    Case(
        "6.2",
        "HEADERS padded",
        (frame(HEADERS, PADDED | END_HEADERS, 1, b"\x02" + RESPONSE_BLOCK + b"\0\0"), END),
        is_over=True,
    ),
    Case("6.3", "PRIORITY on stream 0", (frame(PRIORITY, 0, 0, bytes(5)),), PROTOCOL),
    Case("6.3", "PRIORITY of 4 bytes", (frame(PRIORITY, 0, 1, bytes(4)),), SIZE),
    Case("6.4", "RST_STREAM on stream 0", (frame(RST_STREAM, 0, 0, bytes(4)),), PROTOCOL),
    Case("6.4", "RST_STREAM of 3 bytes", (frame(RST_STREAM, 0, 1, bytes(3)),), SIZE),
    Case("6.5", "SETTINGS are acknowledged", (settings_frame({3: 5}),), answered=(SETTINGS,)),
    Case("6.5", "a SETTINGS ACK with payload", (frame(SETTINGS, ACK, 0, bytes(6)),), SIZE),
    Case("6.5", "SETTINGS on a stream", (frame(SETTINGS, 0, 1, bytes(6)),), PROTOCOL),
    Case("6.5", "SETTINGS of a broken length", (frame(SETTINGS, 0, 0, bytes(5)),), SIZE),
    Case("6.5.2", "ENABLE_PUSH of a server", (settings_frame({ENABLE_PUSH: 1}),), PROTOCOL),
    Case(
        "6.5.2",
        "ENABLE_PUSH of 0 says nothing new",
        (settings_frame({ENABLE_PUSH: 0}),),
        answered=(SETTINGS,),
    ),
    Case("6.5.2", "INITIAL_WINDOW_SIZE over 2^31 - 1", (settings_frame({4: 1 << 31}),), FLOW),
    Case("6.5.2", "MAX_FRAME_SIZE below its least", (settings_frame({5: 16383}),), PROTOCOL),
    Case("6.5.2", "MAX_FRAME_SIZE over its most", (settings_frame({5: 1 << 24}),), PROTOCOL),
    Case(
        "6.5.2", "an unknown setting is ignored", (settings_frame({0xFF: 1}),), answered=(SETTINGS,)
    ),
    Case(
        "6.6",
        "PUSH_PROMISE, which the client forbade",
        (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + RESPONSE_BLOCK),),
        PROTOCOL,
    ),
    Case("6.7", "PING is answered", (frame(PING, 0, 0, b"12345678"),), answered=(PING,)),
    Case("6.7", "PING on a stream", (frame(PING, 0, 1, bytes(8)),), PROTOCOL),
    Case("6.7", "PING of 6 bytes", (frame(PING, 0, 0, bytes(6)),), SIZE),
    Case("6.8", "GOAWAY on a stream", (frame(GOAWAY, 0, 1, bytes(8)),), PROTOCOL),
    Case("6.8", "GOAWAY of 7 bytes", (frame(GOAWAY, 0, 0, bytes(7)),), SIZE),
    Case("6.9", "WINDOW_UPDATE by 0 on the connection", (window_update(0, 0),), PROTOCOL),
    Case("6.9", "WINDOW_UPDATE by 0 on a stream", (window_update(1, 0),), reset=PROTOCOL),
    Case("6.9", "WINDOW_UPDATE of 3 bytes", (frame(WINDOW_UPDATE, 0, 0, bytes(3)),), SIZE),
    Case("6.9.1", "a connection window over 2^31 - 1", (window_update(0, 0x7FFF_FFFF),), FLOW),
    Case("6.9.1", "a stream window over 2^31 - 1", (window_update(1, 0x7FFF_FFFF),), reset=FLOW),
    Case(
        "6.9.2",
        "a window over 2^31 - 1 by INITIAL_WINDOW_SIZE",
        (window_update(1, 0x7FFF_0000), settings_frame({4: 0x7FFF_FFFF})),
        FLOW,
    ),
    Case(
        "6.10",
        "a block in parts",
        (
            frame(HEADERS, 0, 1, RESPONSE_BLOCK[:1]),
            frame(CONTINUATION, 0, 1),
            frame(CONTINUATION, 4, 1, RESPONSE_BLOCK[1:]),
            END,
        ),
        is_over=True,
    ),
    Case("6.10", "DATA within a block", (frame(HEADERS, 0, 1, RESPONSE_BLOCK), PART), PROTOCOL),
    Case(
        "6.10",
        "CONTINUATION on stream 0",
        (frame(HEADERS, 0, 1, RESPONSE_BLOCK), frame(CONTINUATION, 4, 0)),
        PROTOCOL,
    ),
    Case("6.10", "CONTINUATION after a whole block", (HEAD, frame(CONTINUATION, 4, 1)), PROTOCOL),
    Case(
        "6.10",
        "CONTINUATION after the one that ended its block",
        (
            frame(HEADERS, 0, 1, RESPONSE_BLOCK),
            frame(CONTINUATION, 4, 1),
            frame(CONTINUATION, 4, 1),
        ),
        PROTOCOL,
    ),
    Case("6.10", "CONTINUATION after DATA", (HEAD, PART, frame(CONTINUATION, 4, 1)), PROTOCOL),
    Case("7", "a reset of an unknown code", (frame(RST_STREAM, 0, 1, pack_uint32(99)),)),
]


def test_the_client_does_what_the_specification_says(case: Case) -> None:
    assert case.play_to_client(case.sent) == case.expected


def test_it_does_not_matter_how_the_bytes_are_cut(case: Case) -> None:
    whole = b"".join(case.sent)
    octets = (whole[index : index + 1] for index in range(len(whole)))
    assert case.play_to_client(octets) == case.expected


def test_3_4_the_client_begins_with_the_preface_and_its_settings() -> None:
    server = ScriptedServer(greets=False)
    assert server.preface == PREFACE
    assert (server.greeting[0].kind, server.greeting[0].flags) == (SETTINGS, 0)


@pytest.mark.parametrize(
    "first", [frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK, 0), b"HTTP/1.1 400 "]
)
def test_3_4_the_settings_of_the_server_come_first(first: bytes) -> None:
    assert ScriptedServer(greets=False).send(first).connection.closing


def test_6_8_streams_above_the_last_of_a_goaway_may_be_made_again_and_others_go_on() -> None:
    server = ScriptedServer()
    kept, lost = server.call(), server.call()
    server.send(goaway(1, ErrorCode.NO_ERROR))
    assert lost.was_refused and not kept.is_concluded and not server.client.has_room
    server.send(HEAD, END)
    assert kept.ends == [RpcStatus.OK]
    assert server.client.closing


def test_6_8_a_first_goaway_of_a_graceful_end_refuses_nothing() -> None:
    server = ScriptedServer()
    call = server.call()
    server.send(goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR))
    assert not call.is_concluded and not server.client.is_usable


def test_7_a_stream_refused_by_the_server_may_be_made_again() -> None:
    server = ScriptedServer()
    call = server.call()
    server.send(rst_stream(1, ErrorCode.REFUSED_STREAM))
    assert call.was_refused and call.ends == [RpcStatus.UNAVAILABLE]
