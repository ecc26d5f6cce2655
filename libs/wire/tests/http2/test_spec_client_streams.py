"""Streams, messages and header compression, by section of RFC 9113 (5 and 8) and RFC 7541, from the
side of a client that has opened stream 1."""

from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    frame,
    rst_stream,
    window_update,
)
from wire.http2.header_encoding import encode_fields
from wire.http2.settings import settings_frame
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
    # Streams
    Case("5.1", "DATA on an idle stream", (frame(DATA, 0, 3, b"x"),), PROTOCOL),
    Case(
        "5.1",
        "HEADERS on an idle stream",
        (frame(HEADERS, END_HEADERS, 3, RESPONSE_BLOCK),),
        PROTOCOL,
    ),
    Case("5.1", "RST_STREAM on an idle stream", (rst_stream(3, ErrorCode.CANCEL),), PROTOCOL),
    Case("5.1", "WINDOW_UPDATE on an idle stream", (window_update(3, 1),), PROTOCOL),
    Case("5.1", "CONTINUATION on an idle stream", (frame(CONTINUATION, 4, 3),), PROTOCOL),
    Case(
        "5.1",
        "PRIORITY on an idle stream is ignored",
        (frame(PRIORITY, 0, 3, bytes(5)), HEAD, END),
        is_over=True,
    ),
    Case("5.1", "DATA on a stream the server reset", (HEAD, RESET, PART), reset=GONE),
    Case("5.1", "HEADERS on a stream the server reset are ignored", (HEAD, RESET, END)),
    Case(
        "5.1",
        "CONTINUATION on a stream the server reset",
        (HEAD, RESET, frame(CONTINUATION, 4, 1)),
        PROTOCOL,
    ),
    Case("5.1", "DATA on a stream that both ended", (HEAD, END, PART), reset=GONE, is_over=True),
    Case("5.1", "HEADERS on a stream that both ended are ignored", (HEAD, END, END), is_over=True),
    Case(
        "5.1",
        "CONTINUATION on a stream that both ended",
        (HEAD, END, frame(CONTINUATION, 4, 1)),
        PROTOCOL,
        is_over=True,
    ),
    Case(
        "5.1",
        "WINDOW_UPDATE on a stream that both ended is ignored",
        (HEAD, END, window_update(1, 9)),
        is_over=True,
    ),
    Case(
        "5.1", "RST_STREAM on a stream that both ended is ignored", (HEAD, END, RESET), is_over=True
    ),
    Case(
        "5.1",
        "DATA on a stream that the client left is ignored",
        (HEAD, END, PART),
        reset=ErrorCode.NO_ERROR,
    ),
    Case(
        "5.1.1",
        "a stream that the server opens",
        (frame(HEADERS, END_HEADERS, 2, RESPONSE_BLOCK),),
        PROTOCOL,
    ),
    Case(
        "5.5",
        "an unknown frame within a block",
        (frame(HEADERS, 0, 1, RESPONSE_BLOCK), frame(0x16, 0, 1)),
        PROTOCOL,
    ),
    # Messages
    Case(
        "8.1",
        "an informational head goes before the head",
        (frame(HEADERS, END_HEADERS, 1, encode_fields([(b":status", b"103")])), HEAD, END),
        is_over=True,
    ),
    Case("8.1", "DATA ahead of the head", (PART,), reset=PROTOCOL, is_over=True),
    Case("8.1", "a second head", (HEAD, HEAD), reset=PROTOCOL, is_over=True),
    Case(
        "8.1",
        "trailers that do not end the answer",
        (HEAD, frame(HEADERS, END_HEADERS, 1, OK_BLOCK)),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case("8.1", "trailers without a head", (END,), reset=PROTOCOL, is_over=True),
    Case(
        "8.1",
        "a pseudo-field in trailers",
        (HEAD, frame(HEADERS, LAST, 1, RESPONSE_BLOCK)),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.1.1",
        "content shorter than content-length",
        (head((b"content-length", b"9")), PART, END),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.1.1",
        "content longer than content-length",
        (head((b"content-length", b"5")), PART),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.1.1",
        "content as long as content-length says",
        (head((b"content-length", b"6")), PART, END),
        is_over=True,
    ),
    Case("8.2.1", "a name in upper case", (head((b"X-Big", b"1")),), reset=PROTOCOL, is_over=True),
    Case(
        "8.2.1", "a value with a line break", (head((b"x", b"a\nb")),), reset=PROTOCOL, is_over=True
    ),
    Case(
        "8.2.2",
        "a connection-specific field",
        (head((b"transfer-encoding", b"chunked")),),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.3",
        "a request's pseudo-field",
        (block(encode_fields([(b":path", b"/")]) + RESPONSE_BLOCK),),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.3",
        "a pseudo-field after others",
        (head((b":status", b"200"), without=b":status"),),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.3",
        "a doubled pseudo-field",
        (block(b"\x88" + RESPONSE_BLOCK),),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case("8.3.2", "no :status", (head(without=b":status"),), reset=PROTOCOL, is_over=True),
    Case(
        "8.3.2",
        "a :status that is no number",
        (block(encode_fields([(b":status", b"abc")])),),
        reset=PROTOCOL,
        is_over=True,
    ),
    # Header compression
    Case("HPACK 2.3.3", "an index past the tables", (block(b"\xff\x00"),), COMPRESSION),
    Case(
        "HPACK 4.2",
        "a size update at the end of a block",
        (block(RESPONSE_BLOCK + b"\x20"),),
        COMPRESSION,
    ),
    Case("HPACK 5.1", "an integer without an end", (block(b"\xff" + b"\x80" * 9),), COMPRESSION),
    Case("HPACK 5.2", "Huffman padding of 8 bits", (block(b"\x00\x82\x1f\xff\x01a"),), COMPRESSION),
    Case("HPACK 6.1", "an index of 0", (block(b"\x80"),), COMPRESSION),
    Case(
        "HPACK 6.3",
        "a size update over our setting",
        (block(b"\x3f\xe1\x3f" + RESPONSE_BLOCK),),
        COMPRESSION,
    ),
]


def test_the_client_does_what_the_specification_says(case: Case) -> None:
    assert case.play_to_client(case.sent) == case.expected


def test_it_does_not_matter_how_the_bytes_are_cut(case: Case) -> None:
    whole = b"".join(case.sent)
    octets = (whole[index : index + 1] for index in range(len(whole)))
    assert case.play_to_client(octets) == case.expected


def test_5_1_1_streams_have_odd_numbers_that_grow() -> None:
    server = ScriptedServer()
    assert [server.call().id for _ in range(3)] == [1, 3, 5]


def test_5_1_2_the_client_opens_no_more_streams_than_the_server_takes() -> None:
    server = ScriptedServer().send(settings_frame({3: 1}))
    server.call()
    assert not server.client.has_room
    server.send(RESET)
    assert server.client.has_room


def test_5_4_1_a_fault_of_the_connection_ends_each_call_once() -> None:
    server = ScriptedServer()
    calls = [server.call(), server.call()]
    server.send(frame(PING, 0, 0, b"short"), RESET)
    assert [call.ends for call in calls] == [[RpcStatus.UNAVAILABLE]] * 2
    assert not server.client.streams


def test_5_1_a_call_that_is_over_is_not_ended_again_by_giving_it_up() -> None:
    server = ScriptedServer()
    call = server.call()
    server.send(HEAD, END)
    call.expire()
    server.read()
    assert call.ends == [RpcStatus.OK] and server.reset_of(1) is None
