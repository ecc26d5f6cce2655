"""What RFC 9113 and RFC 7541 demand of a server, by section: the cases of h2spec and some more.

Each case is what a client sends after the handshake, and how the server must end the connection (a
GOAWAY code), the stream 1 (an RST_STREAM code), or not at all.
"""

from dataclasses import dataclass, field

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
from wire.http2.header_encoding import encode_fields
from wire.http2.limits import Limits
from wire.http2.settings import settings_frame
from wire.testing.scripted_client import REQUEST_BLOCK, REQUEST_FIELDS, ScriptedClient

OPEN = frame(HEADERS, END_HEADERS, 1, REQUEST_BLOCK)
CLOSED = frame(HEADERS, END_HEADERS | END_STREAM, 1, REQUEST_BLOCK)
PROTOCOL, FLOW = ErrorCode.PROTOCOL_ERROR, ErrorCode.FLOW_CONTROL_ERROR
SIZE, GONE = ErrorCode.FRAME_SIZE_ERROR, ErrorCode.STREAM_CLOSED
COMPRESSION, CALM = ErrorCode.COMPRESSION_ERROR, ErrorCode.ENHANCE_YOUR_CALM
RESET = rst_stream(1, ErrorCode.CANCEL)


@dataclass(frozen=True)
class Case:
    section: str
    what: str
    sent: tuple[bytes, ...]
    goaway: ErrorCode | None = None
    reset: ErrorCode | None = None
    answered: tuple[int, ...] = field(default=())
    """Types of frames that the server must have sent."""


def request(*fields: tuple[bytes, bytes], without: bytes = b"") -> bytes:
    """A request with some fields more, or one less."""
    kept = tuple(item for item in REQUEST_FIELDS if item[0] != without)
    return frame(HEADERS, END_HEADERS, 1, encode_fields(kept + fields))


def pseudo_first(*fields: tuple[bytes, bytes]) -> bytes:
    return frame(HEADERS, END_HEADERS, 1, encode_fields(fields + REQUEST_FIELDS))


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
    # Streams
    Case("5.1", "DATA on an idle stream", (frame(DATA, 0, 1, b"x"),), PROTOCOL),
    Case("5.1", "RST_STREAM on an idle stream", (RESET,), PROTOCOL),
    Case("5.1", "WINDOW_UPDATE on an idle stream", (window_update(1, 1),), PROTOCOL),
    Case("5.1", "CONTINUATION on an idle stream", (frame(CONTINUATION, 4, 1, b""),), PROTOCOL),
    Case("5.1", "DATA on a half-closed stream", (CLOSED, frame(DATA, 0, 1, b"x")), reset=GONE),
    Case("5.1", "HEADERS on a half-closed stream", (CLOSED, OPEN), reset=GONE),
    Case(
        "5.1",
        "DATA on a stream the client reset",
        (OPEN, RESET, frame(DATA, 0, 1, b"x")),
        reset=GONE,
    ),
    Case("5.1", "HEADERS on a stream the client reset", (OPEN, RESET, OPEN), GONE),
    Case("5.1", "WINDOW_UPDATE on a closed stream is ignored", (OPEN, RESET, window_update(1, 9))),
    Case("5.1", "RST_STREAM on a closed stream is ignored", (OPEN, RESET, RESET)),
    Case(
        "5.1",
        "PRIORITY on a closed stream is ignored",
        (OPEN, RESET, frame(PRIORITY, 0, 1, bytes(5))),
    ),
    Case(
        "5.1.1",
        "a stream of an even number",
        (frame(HEADERS, END_HEADERS, 2, REQUEST_BLOCK),),
        PROTOCOL,
    ),
    Case(
        "5.1.1",
        "a stream below one that was opened",
        (
            frame(HEADERS, END_HEADERS, 5, REQUEST_BLOCK),
            frame(HEADERS, END_HEADERS, 3, REQUEST_BLOCK),
        ),
        GONE,
    ),
    Case(
        "5.5",
        "an unknown frame within a block",
        (frame(HEADERS, 0, 1, REQUEST_BLOCK), frame(0x16, 0, 1)),
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
    # Fields
    Case("8.2.1", "a name in upper case", (request((b"X-Big", b"1")),), reset=PROTOCOL),
    Case("8.2.1", "a name with a space", (request((b"x y", b"1")),), reset=PROTOCOL),
    Case("8.2.1", "an empty name", (request((b"", b"1")),), reset=PROTOCOL),
    Case("8.2.1", "a value with a line break", (request((b"x", b"a\r\nb")),), reset=PROTOCOL),
    Case("8.2.1", "a value with a NUL", (request((b"x", b"a\0b")),), reset=PROTOCOL),
    Case("8.2.1", "a value with a space at its end", (request((b"x", b"a ")),), reset=PROTOCOL),
    Case(
        "8.2.2",
        "a connection-specific field",
        (request((b"connection", b"close")),),
        reset=PROTOCOL,
    ),
    Case(
        "8.2.2",
        "te of another value than trailers",
        (request((b"te", b"gzip"), without=b"te"),),
        reset=PROTOCOL,
    ),
    Case("8.3", "an unknown pseudo-field", (pseudo_first((b":test", b"1")),), reset=PROTOCOL),
    Case("8.3", "a response's pseudo-field", (pseudo_first((b":status", b"200")),), reset=PROTOCOL),
    Case(
        "8.3",
        "a pseudo-field after others",
        (request((b":path", b"/"), without=b":path"),),
        reset=PROTOCOL,
    ),
    Case("8.3", "a doubled pseudo-field", (pseudo_first((b":path", b"/")),), reset=PROTOCOL),
    Case("8.3.1", "no :method", (request(without=b":method"),), reset=PROTOCOL),
    Case("8.3.1", "no :scheme", (request(without=b":scheme"),), reset=PROTOCOL),
    Case("8.3.1", "no :path", (request(without=b":path"),), reset=PROTOCOL),
    Case("8.3.1", "an empty :path", (pseudo_first((b":path", b"")),), reset=PROTOCOL),
    # RFC 7541
    Case("HPACK 2.3.3", "an index of 0", (block(b"\x80"),), COMPRESSION),
    Case("HPACK 2.3.3", "an index past the tables", (block(b"\xff\x00"),), COMPRESSION),
    Case(
        "HPACK 4.2",
        "a size update over our setting",
        (block(b"\x3f\xe1\x3f" + REQUEST_BLOCK),),
        COMPRESSION,
    ),
    Case(
        "HPACK 4.2",
        "a size update at the end of a block",
        (block(REQUEST_BLOCK + b"\x20"),),
        COMPRESSION,
    ),
    Case("HPACK 5.1", "an integer without an end", (block(b"\xff" + b"\x80" * 9),), COMPRESSION),
    Case("HPACK 5.2", "a string past its block", (block(b"\x00\x7fabc"),), COMPRESSION),
    Case("HPACK 5.2", "Huffman padding of 8 bits", (block(b"\x00\x82\x1f\xff\x01a"),), COMPRESSION),
    Case("HPACK 5.2", "Huffman padding of zeros", (block(b"\x00\x81\x18\x01a"),), COMPRESSION),
    Case("HPACK 5.2", "Huffman with EOS", (block(b"\x00\x84\xff\xff\xff\xff\x01a"),), COMPRESSION),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section}: {case.what}")
def test_a_server_ends_what_the_specification_says(
    checked_client: ScriptedClient, case: Case
) -> None:
    client = checked_client
    client.send_each(case.sent)
    assert (client.goaway, client.reset_of(1)) == (case.goaway, case.reset)
    assert {found.kind for found in client.frames} >= set(case.answered)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section}: {case.what}")
def test_it_does_not_matter_how_the_bytes_are_cut(
    checked_client: ScriptedClient, case: Case
) -> None:
    whole = b"".join(case.sent)
    client = checked_client
    client.send_each(whole[index : index + 1] for index in range(len(whole)))
    assert (client.goaway, client.reset_of(1)) == (case.goaway, case.reset)


def test_3_4_a_preface_that_is_none_ends_the_connection() -> None:
    client = ScriptedClient(greets=False).send(b"GET / HTTP/1.1\r\n\r\n")
    assert client.goaway is PROTOCOL


def test_3_4_the_preface_may_come_in_parts() -> None:
    client = ScriptedClient(greets=False)
    client.send_each([PREFACE[:5], PREFACE[5:20], PREFACE[20:] + frame(SETTINGS, 0, 0)])
    assert client.server.has_settings and not client.server.closing


@pytest.mark.parametrize("first", [frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK, 0), OPEN])
def test_3_4_settings_come_first(first: bytes) -> None:
    assert ScriptedClient(greets=False).send(PREFACE, first).goaway is PROTOCOL


def test_5_1_2_a_stream_over_the_limit_is_refused_and_may_be_sent_again() -> None:
    client = ScriptedClient(Limits(max_concurrent_streams=1)).request(1).request(3)
    assert client.reset_of(3) is ErrorCode.REFUSED_STREAM
    client.send(RESET).request(5)
    assert client.reset_of(5) is None and client.goaway is None


def test_4_2_a_length_is_judged_before_its_payload_comes(checked_client: ScriptedClient) -> None:
    assert checked_client.send(pack_header(16385 << 8 | DATA, 0, 1)).goaway is SIZE
