"""Streams and messages, by section of RFC 9113: sections 5 and 8, from the side of a server."""

from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PRIORITY_FLAG,
    PUSH_PROMISE,
    RST_STREAM,
    frame,
    read_uint32,
    rst_stream,
    window_update,
)
from wire.http2.header_encoding import encode_fields
from wire.http2.limits import Limits
from wire.testing.scripted_client import REQUEST_BLOCK, REQUEST_FIELDS, ScriptedClient
from wire.testing.spec_case import Case

OPEN = frame(HEADERS, END_HEADERS, 1, REQUEST_BLOCK)
CLOSED = frame(HEADERS, END_HEADERS | END_STREAM, 1, REQUEST_BLOCK)
PROTOCOL, GONE = ErrorCode.PROTOCOL_ERROR, ErrorCode.STREAM_CLOSED
RESET = rst_stream(1, ErrorCode.CANCEL)
LAST = END_HEADERS | END_STREAM


def request(*fields: tuple[bytes, bytes], without: bytes = b"", flags: int = END_HEADERS) -> bytes:
    """A request with some fields more, or one less."""
    kept = tuple(item for item in REQUEST_FIELDS if item[0] != without)
    return frame(HEADERS, flags, 1, encode_fields(kept + fields))


def pseudo_first(*fields: tuple[bytes, bytes]) -> bytes:
    return frame(HEADERS, END_HEADERS, 1, encode_fields(fields + REQUEST_FIELDS))


def trailers(*fields: tuple[bytes, bytes], flags: int = LAST) -> bytes:
    return frame(HEADERS, flags, 1, encode_fields(fields))


def sized(number: bytes, *parts: bytes) -> tuple[bytes, ...]:
    """A request that says how long its content is, and the content."""
    data = [frame(DATA, 0, 1, part) for part in parts[:-1]]
    return request((b"content-length", number)), *data, frame(DATA, END_STREAM, 1, parts[-1])


CASES = [
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
    Case("8.3.1", "a doubled :method", (pseudo_first((b":method", b"POST")),), reset=PROTOCOL),
    Case("8.3.1", "a doubled :scheme", (pseudo_first((b":scheme", b"http")),), reset=PROTOCOL),
    # More of what becomes of streams
    Case(
        "5.1", "CONTINUATION on a half-closed stream", (CLOSED, frame(CONTINUATION, 4, 1)), PROTOCOL
    ),
    Case(
        "5.1",
        "CONTINUATION on a stream the client reset",
        (OPEN, RESET, frame(CONTINUATION, 4, 1)),
        PROTOCOL,
    ),
    Case(
        "5.1",
        "DATA on a stream that both ended",
        (CLOSED, frame(DATA, 0, 1, b"x")),
        reset=GONE,
        is_over=True,
    ),
    Case("5.1", "HEADERS on a stream that both ended", (CLOSED, OPEN), GONE, is_over=True),
    Case(
        "5.1",
        "CONTINUATION on a stream that both ended",
        (CLOSED, frame(CONTINUATION, 4, 1)),
        PROTOCOL,
        is_over=True,
    ),
    Case("5.1", "PRIORITY on an idle stream is ignored", (frame(PRIORITY, 0, 1, bytes(5)),)),
    Case(
        "5.1",
        "PRIORITY on a half-closed stream is ignored",
        (CLOSED, frame(PRIORITY, 0, 1, bytes(5))),
    ),
    Case("5.1", "WINDOW_UPDATE on a half-closed stream is taken", (CLOSED, window_update(1, 9))),
    Case("5.1", "RST_STREAM on a half-closed stream is taken", (CLOSED, RESET)),
    Case(
        "5.1",
        "PRIORITY on a stream that both ended is ignored",
        (CLOSED, frame(PRIORITY, 0, 1, bytes(5))),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case(
        "5.3.2",
        "HEADERS that depend on themselves: priorities mean nothing",
        (frame(HEADERS, LAST | PRIORITY_FLAG, 1, b"\0\0\0\x01\x0f" + REQUEST_BLOCK),),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case(
        "5.3.2",
        "PRIORITY that depends on itself: priorities mean nothing",
        (OPEN, frame(PRIORITY, 0, 1, b"\0\0\0\x01\x0f")),
    ),
    Case(
        "5.5",
        "an unknown frame on an idle stream is ignored",
        (frame(0x16, 0xFF, 7, b"x"), CLOSED),
        answered=(HEADERS,),
        is_over=True,
    ),
    # Messages
    Case(
        "8.1",
        "trailers end a request",
        (OPEN, frame(DATA, 0, 1, b"x"), trailers((b"x", b"y"))),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case(
        "8.1",
        "a second head that does not end the request",
        (OPEN, frame(DATA, 0, 1, b"x"), OPEN),
        reset=PROTOCOL,
    ),
    Case(
        "8.1", "a pseudo-field in trailers", (OPEN, trailers((b":method", b"GET"))), reset=PROTOCOL
    ),
    Case(
        "8.1", "trailers with a name in upper case", (OPEN, trailers((b"X", b"y"))), reset=PROTOCOL
    ),
    Case(
        "8.1.1",
        "content as long as content-length says",
        sized(b"4", b"ab", b"cd"),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case(
        "8.1.1",
        "a content-length of 0 and no content",
        (request((b"content-length", b"0"), flags=LAST),),
        answered=(HEADERS,),
        is_over=True,
    ),
    Case(
        "8.1.1",
        "content shorter than content-length",
        sized(b"2", b"a"),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.1.1",
        "content longer than content-length",
        sized(b"1", b"ab"),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.1.1",
        "content shorter than content-length, in several frames",
        sized(b"9", b"ab", b"cd"),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.1.1",
        "content longer than content-length, in several frames",
        sized(b"3", b"ab", b"cd"),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.1.1",
        "no content where content-length says some",
        (request((b"content-length", b"1"), flags=LAST),),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.1.1",
        "trailers before content-length is reached",
        (request((b"content-length", b"1")), trailers((b"x", b"y"))),
        reset=PROTOCOL,
        is_over=True,
    ),
    Case(
        "8.1.1",
        "a content-length that is no number",
        (request((b"content-length", b"+1")),),
        reset=PROTOCOL,
    ),
    Case(
        "8.1.1",
        "two content-lengths that differ",
        (request((b"content-length", b"1"), (b"content-length", b"2")),),
        reset=PROTOCOL,
    ),
    Case("8.2.2", "te: trailers is taken", (request((b"te", b"trailers"), without=b"te"),)),
    Case(
        "8.4",
        "PUSH_PROMISE of a client",
        (OPEN, frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + REQUEST_BLOCK)),
        PROTOCOL,
    ),
]


def test_the_server_does_what_the_specification_says(case: Case) -> None:
    assert case.play_to_server(case.sent) == case.expected


def test_it_does_not_matter_how_the_bytes_are_cut(case: Case) -> None:
    whole = b"".join(case.sent)
    octets = (whole[index : index + 1] for index in range(len(whole)))
    assert case.play_to_server(octets) == case.expected


def test_5_1_2_a_stream_over_the_limit_is_refused_and_may_be_sent_again() -> None:
    client = ScriptedClient(Limits(max_concurrent_streams=1)).request(1).request(3)
    assert client.reset_of(3) is ErrorCode.REFUSED_STREAM
    client.send(RESET).request(5)
    assert client.reset_of(5) is None and client.goaway is None


def test_5_4_1_after_a_fault_the_server_names_its_last_stream_and_reads_no_more() -> None:
    client = ScriptedClient().request(1).request(3)
    client.send(frame(PING, 0, 0, b"short"), frame(PING, 0, 0, bytes(8)))
    [goaway] = client.frames
    assert goaway.kind == GOAWAY and read_uint32(goaway.payload) == 3
    assert client.server.closing and not client.server.streams


def test_5_4_2_a_fault_of_one_stream_leaves_the_others_alone() -> None:
    client = ScriptedClient().request(1).request(3).send(window_update(1, 0))
    assert [found.kind for found in client.frames] == [RST_STREAM]
    assert [*client.server.streams] == [3]
