"""Frames, by section of RFC 9113: sections 3, 4, 6 and 7, from the side of a server.

With the files beside it this covers the cases of h2spec, and some more.
"""

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
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_FLAG,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    pack_header,
    pack_uint32,
    rst_stream,
    window_update,
)
from wire.http2.settings import settings_frame
from wire.testing.scripted_client import REQUEST_BLOCK, ScriptedClient
from wire.testing.spec_case import Case

OPEN = frame(HEADERS, END_HEADERS, 1, REQUEST_BLOCK)
CLOSED = frame(HEADERS, END_HEADERS | END_STREAM, 1, REQUEST_BLOCK)
PROTOCOL, FLOW = ErrorCode.PROTOCOL_ERROR, ErrorCode.FLOW_CONTROL_ERROR
SIZE, COMPRESSION = ErrorCode.FRAME_SIZE_ERROR, ErrorCode.COMPRESSION_ERROR


def block(raw: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS, 1, raw)


CASES = [
    # RFC 9113, frames
    Case("4.1", "a frame of an unknown type is ignored", (frame(0x16, 0, 0, bytes(8)),)),
    Case("4.1", "undefined flags are ignored", (frame(PING, 0xFE, 0, bytes(8)),), answered=(PING,)),
    Case("4.1", "the reserved bit is ignored", (frame(PING, 0, 0x8000_0000, bytes(8)),)),
    Case("4.2", "DATA up to the largest frame is taken", (OPEN, frame(DATA, 0, 1, bytes(16384)))),
    Case("4.2", "DATA over it", (OPEN, frame(DATA, 0, 1, bytes(16385))), SIZE),
    Case("4.2", "HEADERS over it", (frame(HEADERS, END_HEADERS, 1, bytes(16385)),), SIZE),
    Case(
        "4.3",
        "a block that cannot be decompressed",
        (block(b"\xff\xff\xff\xff\xff\xff"),),
        COMPRESSION,
    ),
    Case(
        "4.3",
        "another frame within a block",
        (frame(HEADERS, 0, 1, REQUEST_BLOCK), frame(PRIORITY, 0, 1, bytes(5))),
        PROTOCOL,
    ),
    Case(
        "4.3",
        "HEADERS of another stream within a block",
        (frame(HEADERS, 0, 1, REQUEST_BLOCK), frame(HEADERS, END_HEADERS, 3, REQUEST_BLOCK)),
        PROTOCOL,
    ),
    # Frame definitions
    Case("6.1", "DATA on stream 0", (frame(DATA, 0, 0, b"x"),), PROTOCOL),
    Case("6.1", "DATA of too much padding", (OPEN, frame(DATA, PADDED, 1, b"\x06abcde")), PROTOCOL),
    Case("6.1", "DATA padded", (OPEN, frame(DATA, PADDED, 1, b"\x02abcde"))),
    Case("6.2", "HEADERS on stream 0", (frame(HEADERS, END_HEADERS, 0, REQUEST_BLOCK),), PROTOCOL),
    Case(
        "6.2",
        "HEADERS of too much padding",
        (frame(HEADERS, PADDED | END_HEADERS, 1, b"\x09abc"),),
        PROTOCOL,
    ),
    Case(
        "6.2",
        "HEADERS with padding and a priority",
        (
            frame(
                HEADERS,
                PADDED | PRIORITY_FLAG | END_HEADERS,
                1,
                b"\x03" + bytes(5) + REQUEST_BLOCK + bytes(3),
            ),
        ),
    ),
    Case(
        "6.2",
        "HEADERS too short for its priority",
        (frame(HEADERS, PRIORITY_FLAG | END_HEADERS, 1, b"\0"),),
        SIZE,
    ),
    Case("6.3", "PRIORITY on stream 0", (frame(PRIORITY, 0, 0, bytes(5)),), PROTOCOL),
    Case("6.3", "PRIORITY of 4 bytes", (frame(PRIORITY, 0, 1, bytes(4)),), SIZE),
    Case("6.4", "RST_STREAM on stream 0", (frame(RST_STREAM, 0, 0, bytes(4)),), PROTOCOL),
    Case("6.4", "RST_STREAM of 3 bytes", (OPEN, frame(RST_STREAM, 0, 1, bytes(3))), SIZE),
    Case("6.5", "SETTINGS are acknowledged", (settings_frame({3: 5}),), answered=(SETTINGS,)),
    Case("6.5", "a SETTINGS ACK with payload", (frame(SETTINGS, ACK, 0, bytes(6)),), SIZE),
    Case("6.5", "SETTINGS on a stream", (frame(SETTINGS, 0, 1, bytes(6)),), PROTOCOL),
    Case("6.5", "SETTINGS of a broken length", (frame(SETTINGS, 0, 0, bytes(5)),), SIZE),
    Case("6.5.2", "ENABLE_PUSH of 2", (settings_frame({2: 2}),), PROTOCOL),
    Case("6.5.2", "INITIAL_WINDOW_SIZE over 2^31 - 1", (settings_frame({4: 1 << 31}),), FLOW),
    Case("6.5.2", "MAX_FRAME_SIZE below its least", (settings_frame({5: 16383}),), PROTOCOL),
    Case("6.5.2", "MAX_FRAME_SIZE over its most", (settings_frame({5: 1 << 24}),), PROTOCOL),
    Case(
        "6.5.2", "an unknown setting is ignored", (settings_frame({0xFF: 1}),), answered=(SETTINGS,)
    ),
    Case(
        "6.6",
        "PUSH_PROMISE of a client",
        (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)),),
        PROTOCOL,
    ),
    Case("6.7", "PING is answered", (frame(PING, 0, 0, b"12345678"),), answered=(PING,)),
    Case("6.7", "a PING ACK is not answered", (frame(PING, ACK, 0, b"12345678"),)),
    Case("6.7", "PING on a stream", (frame(PING, 0, 1, bytes(8)),), PROTOCOL),
    Case("6.7", "PING of 6 bytes", (frame(PING, 0, 0, bytes(6)),), SIZE),
    Case("6.8", "GOAWAY on a stream", (frame(GOAWAY, 0, 1, bytes(8)),), PROTOCOL),
    Case("6.8", "GOAWAY of 7 bytes", (frame(GOAWAY, 0, 0, bytes(7)),), SIZE),
    Case("6.8", "requests after the client's GOAWAY go on", (frame(GOAWAY, 0, 0, bytes(8)), OPEN)),
    Case("6.9", "WINDOW_UPDATE by 0 on the connection", (window_update(0, 0),), PROTOCOL),
    Case("6.9", "WINDOW_UPDATE by 0 on a stream", (OPEN, window_update(1, 0)), reset=PROTOCOL),
    Case("6.9", "WINDOW_UPDATE of 3 bytes", (frame(WINDOW_UPDATE, 0, 0, bytes(3)),), SIZE),
    Case("6.9.1", "a connection window over 2^31 - 1", (window_update(0, 0x7FFF_FFFF),), FLOW),
    Case(
        "6.9.1", "a stream window over 2^31 - 1", (OPEN, window_update(1, 0x7FFF_FFFF)), reset=FLOW
    ),
    Case(
        "6.9.2",
        "a window over 2^31 - 1 by INITIAL_WINDOW_SIZE",
        (OPEN, window_update(1, 0x7FFF_0000), settings_frame({4: 0x7FFF_FFFF})),
        FLOW,
    ),
    Case(
        "6.10",
        "a block in parts",
        (
            frame(HEADERS, 0, 1, REQUEST_BLOCK[:9]),
            frame(CONTINUATION, 0, 1, REQUEST_BLOCK[9:20]),
            frame(CONTINUATION, 4, 1, REQUEST_BLOCK[20:]),
        ),
    ),
    Case(
        "6.10",
        "CONTINUATION on stream 0",
        (frame(HEADERS, 0, 1, REQUEST_BLOCK), frame(CONTINUATION, 4, 0, b"")),
        PROTOCOL,
    ),
    Case(
        "6.10",
        "CONTINUATION of another stream",
        (frame(HEADERS, 0, 1, REQUEST_BLOCK), frame(CONTINUATION, 4, 3, b"")),
        PROTOCOL,
    ),
    Case(
        "6.10", "CONTINUATION after a whole block", (OPEN, frame(CONTINUATION, 4, 1, b"")), PROTOCOL
    ),
    Case(
        "6.10",
        "DATA within a block",
        (frame(HEADERS, 0, 1, REQUEST_BLOCK), frame(DATA, 0, 1, b"x")),
        PROTOCOL,
    ),
    Case("7", "a reset of an unknown code", (OPEN, frame(RST_STREAM, 0, 1, pack_uint32(99)))),
    # What any server must take
    Case(
        "6.1",
        "DATA in several frames",
        (OPEN, frame(DATA, 0, 1, b"a"), frame(DATA, 1, 1, b"b")),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case(
        "6.1",
        "DATA of padding alone",
        (OPEN, frame(DATA, PADDED | END_STREAM, 1, b"\x02ab")[:-3] + b"\x02\0\0"),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case(
        "6.1",
        "DATA padded, without a length of the padding",
        (OPEN, frame(DATA, PADDED, 1)),
        PROTOCOL,
    ),
    Case("6.2", "a request in one frame is answered", (CLOSED,), answered=(HEADERS,), is_over=True),
    Case(
        "6.2",
        "HEADERS with a priority",
        (frame(HEADERS, PRIORITY_FLAG | END_HEADERS, 1, b"\0\0\0\0\xff" + REQUEST_BLOCK),),
    ),
    Case(
        "6.3",
        "PRIORITY of the least weight",
        (frame(PRIORITY, 0, 1, bytes(5)), CLOSED),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case(
        "6.3",
        "PRIORITY of the greatest weight",
        (frame(PRIORITY, 0, 1, b"\0\0\0\0\xff"), CLOSED),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case(
        "6.3",
        "PRIORITY that depends on another stream",
        (frame(PRIORITY, 0, 1, b"\0\0\0\x05\x0f"), CLOSED),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case(
        "6.3",
        "PRIORITY that is exclusive",
        (frame(PRIORITY, 0, 1, b"\x80\0\0\x05\x0f"), CLOSED),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case(
        "6.3",
        "PRIORITY on an idle stream opens none below it",
        (frame(PRIORITY, 0, 9, bytes(5)), CLOSED),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case("6.4", "RST_STREAM ends a request", (OPEN, rst_stream(1, ErrorCode.CANCEL))),
    Case("6.4", "RST_STREAM of 5 bytes", (OPEN, frame(RST_STREAM, 0, 1, bytes(5))), SIZE),
    Case("6.7", "PING of 9 bytes", (frame(PING, 0, 0, bytes(9)),), SIZE),
    Case(
        "6.8",
        "GOAWAY with a reason of any bytes",
        (frame(GOAWAY, 0, 0, bytes(8) + b"\xff\0"), CLOSED),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case("6.9", "WINDOW_UPDATE on the connection", (window_update(0, 1),)),
    Case("6.9", "WINDOW_UPDATE on a stream", (OPEN, window_update(1, 1))),
    Case("6.9", "WINDOW_UPDATE of 5 bytes", (frame(WINDOW_UPDATE, 0, 0, bytes(5)),), SIZE),
    Case(
        "6.9",
        "the reserved bit of an increment is ignored",
        (frame(WINDOW_UPDATE, 0, 0, b"\x80\0\0\x01"),),
    ),
    Case(
        "6.10",
        "CONTINUATION after the one that ended its block",
        (frame(HEADERS, 0, 1, REQUEST_BLOCK), frame(CONTINUATION, 4, 1), frame(CONTINUATION, 4, 1)),
        PROTOCOL,
    ),
    Case(
        "6.10",
        "CONTINUATION after DATA",
        (OPEN, frame(DATA, 0, 1, b"x"), frame(CONTINUATION, 4, 1)),
        PROTOCOL,
    ),
    Case(
        "6.10",
        "PING within a block, after a part of it",
        (
            frame(HEADERS, 0, 1, REQUEST_BLOCK[:5]),
            frame(CONTINUATION, 0, 1, REQUEST_BLOCK[5:]),
            frame(PING, 0, 0, bytes(8)),
        ),
        PROTOCOL,
    ),
    Case(
        "7",
        "GOAWAY of an unknown code",
        (frame(GOAWAY, 0, 0, bytes(4) + pack_uint32(0xFF)), CLOSED),
        answered=(HEADERS,),
        is_over=True,
    ),
]


def test_the_server_does_what_the_specification_says(case: Case) -> None:
    assert case.play_to_server(case.sent) == case.expected


def test_it_does_not_matter_how_the_bytes_are_cut(case: Case) -> None:
    whole = b"".join(case.sent)
    octets = (whole[index : index + 1] for index in range(len(whole)))
    assert case.play_to_server(octets) == case.expected


def test_3_4_a_preface_that_is_none_ends_the_connection() -> None:
    client = ScriptedClient(greets=False).send(b"GET / HTTP/1.1\r\n\r\n")
    assert client.goaway is PROTOCOL


def test_3_4_the_preface_may_come_in_parts() -> None:
    client = ScriptedClient(greets=False)
    client.send_each([PREFACE[:5], PREFACE[5:20], PREFACE[20:] + frame(SETTINGS, 0, 0)])
    assert client.server.has_settings and not client.server.closing


def test_3_4_the_server_begins_with_its_settings() -> None:
    first = ScriptedClient(greets=False).greeting[0]
    assert (first.kind, first.flags, first.stream_id) == (SETTINGS, 0, 0)


@pytest.mark.parametrize("first", [frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK, 0), OPEN])
def test_3_4_settings_come_first(first: bytes) -> None:
    assert ScriptedClient(greets=False).send(PREFACE, first).goaway is PROTOCOL


def test_4_2_a_length_is_judged_before_its_payload_comes() -> None:
    assert ScriptedClient().send(pack_header(16385 << 8 | DATA, 0, 1)).goaway is SIZE


def test_6_5_3_settings_are_acknowledged_once_each() -> None:
    client = ScriptedClient().send(settings_frame({4: 9}), settings_frame({}), settings_frame({}))
    assert [(found.flags, found.payload) for found in client.said(SETTINGS)] == [(ACK, b"")] * 3


def test_6_5_3_of_a_setting_named_twice_the_last_value_counts() -> None:
    twice = frame(SETTINGS, 0, 0, b"\0\x04\0\0\0\x64" + b"\0\x04\0\0\0\x01")
    assert ScriptedClient().send(twice).server.peer.initial_window_bytes == 1


def test_6_7_a_ping_comes_back_with_its_payload_and_an_answer_does_not() -> None:
    client = ScriptedClient().send(frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, b"abcdefgh"))
    assert [(found.flags, found.payload) for found in client.frames] == [(ACK, b"12345678")]
