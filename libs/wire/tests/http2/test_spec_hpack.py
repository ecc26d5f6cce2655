"""Header compression, by section of RFC 7541, from the side of a server. Its examples are in
`test_hpack_cache.py`."""

import hpack
import pytest

from wire.http2.errors import ErrorCode
from wire.http2.frames import CONTINUATION, END_HEADERS, HEADERS, frame
from wire.http2.hpack_cache import HeaderBlockReader
from wire.testing.scripted_client import REQUEST_BLOCK, ScriptedClient
from wire.testing.spec_case import Case

COMPRESSION = ErrorCode.COMPRESSION_ERROR


def block(raw: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS, 1, raw)


def with_field(raw: bytes) -> tuple[bytes, ...]:
    """A request that is sound if the representation of one more field is."""
    return (block(REQUEST_BLOCK + raw),)


CASES = [
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
    Case(
        "HPACK 2.3.3",
        "the name of a literal past the tables",
        (block(b"\x7f\x00\x01a"),),
        COMPRESSION,
    ),
    Case(
        "HPACK 2.3.3",
        "the name of a literal not indexed past the tables",
        (block(b"\x0f\x7f\x01a"),),
        COMPRESSION,
    ),
    Case(
        "HPACK 2.3.3",
        "an entry that a smaller table has lost",
        (
            block(b"\x40\x01a\x01b" + REQUEST_BLOCK[:1]),
            frame(HEADERS, 4, 3, b"\x20\x3f\xe1\x1f\xbe"),
        ),
        COMPRESSION,
        reset=ErrorCode.PROTOCOL_ERROR,
    ),
    Case(
        "HPACK 4.2",
        "a size update after the first field",
        (block(REQUEST_BLOCK[:1] + b"\x20" + REQUEST_BLOCK[1:]),),
        COMPRESSION,
    ),
    Case("HPACK 4.2", "a size update at the start of a block", (block(b"\x20" + REQUEST_BLOCK),)),
    Case(
        "HPACK 4.2",
        "two size updates at the start of a block",
        (block(b"\x20\x3f\xe1\x1f" + REQUEST_BLOCK),),
    ),
    Case(
        "HPACK 4.2",
        "a size update over our setting, of many octets",
        (block(b"\x3f\xff\xff\xff\x0f" + REQUEST_BLOCK),),
        COMPRESSION,
    ),
    Case(
        "HPACK 4.4",
        "an entry larger than its table empties it",
        (block(b"\x3f\x03" + REQUEST_BLOCK + b"\x40\x01a\x01b"),),
    ),
    Case("HPACK 5.1", "an integer cut off", (block(b"\xff"),), COMPRESSION),
    Case(
        "HPACK 5.1",
        "an integer of octets that add nothing",
        with_field(b"\x00\x01a\x7f\x80\x00" + bytes(127).replace(b"\0", b"v")),
    ),
    Case(
        "HPACK 5.1",
        "a length beyond all reason",
        (block(b"\x00\x7f\xff\xff\xff\xff\x0f"),),
        COMPRESSION,
    ),
    Case("HPACK 5.2", "a string without its length", (block(b"\x00"),), COMPRESSION),
    Case("HPACK 5.2", "a name without a value", (block(b"\x00\x01a"),), COMPRESSION),
    Case("HPACK 5.2", "an empty value", with_field(b"\x00\x01a\x00")),
    Case("HPACK 6.1", "a field by index", with_field(b"\x90")),
    Case(
        "HPACK 6.1",
        "a field by index of several octets",
        (block(REQUEST_BLOCK + b"\x40\x01a\x01b"), frame(HEADERS, 4, 3, REQUEST_BLOCK + b"\xbe")),
    ),
    Case("HPACK 6.2.1", "indexed, name by index", with_field(b"\x53\x01a")),
    Case("HPACK 6.2.1", "indexed, name by index, Huffman", with_field(b"\x53\x81\x1f")),
    Case("HPACK 6.2.1", "indexed, a new name", with_field(b"\x40\x01a\x01b")),
    Case("HPACK 6.2.1", "indexed, a new name, Huffman", with_field(b"\x40\x81\x1f\x81\x1f")),
    Case("HPACK 6.2.2", "not indexed, name by index", with_field(b"\x0f\x04\x01a")),
    Case("HPACK 6.2.2", "not indexed, name by index, Huffman", with_field(b"\x0f\x04\x81\x1f")),
    Case("HPACK 6.2.2", "not indexed, a new name", with_field(b"\x00\x01a\x01b")),
    Case("HPACK 6.2.2", "not indexed, a new name, Huffman", with_field(b"\x00\x81\x1f\x81\x1f")),
    Case("HPACK 6.2.3", "never indexed, name by index", with_field(b"\x1f\x04\x01a")),
    Case("HPACK 6.2.3", "never indexed, name by index, Huffman", with_field(b"\x1f\x04\x81\x1f")),
    Case("HPACK 6.2.3", "never indexed, a new name", with_field(b"\x10\x01a\x01b")),
    Case("HPACK 6.2.3", "never indexed, a new name, Huffman", with_field(b"\x10\x81\x1f\x81\x1f")),
    Case(
        "HPACK 6.3",
        "a size update and nothing else",
        (block(b"\x20"),),
        reset=ErrorCode.PROTOCOL_ERROR,
    ),
]


def test_the_server_does_what_the_specification_says(case: Case) -> None:
    assert case.play_to_server(case.sent) == case.expected


def test_it_does_not_matter_how_the_bytes_are_cut(case: Case) -> None:
    whole = b"".join(case.sent)
    octets = (whole[index : index + 1] for index in range(len(whole)))
    assert case.play_to_server(octets) == case.expected


def test_4_1_a_block_is_one_however_many_frames_carry_it() -> None:
    client = ScriptedClient()
    client.send(frame(HEADERS, 0, 1, REQUEST_BLOCK + b"\x40\x01a"))
    client.send(frame(CONTINUATION, END_HEADERS, 1, b"\x01b"))
    assert client.goaway is None and [*client.server.streams] == [1]


@pytest.mark.parametrize("maximum", [0, 33, 34, 100, 4096])
def test_4_3_entries_are_evicted_as_the_reference_encoder_expects(maximum: int) -> None:
    encoder, reader = hpack.Encoder(), HeaderBlockReader(max_list_bytes=32_768)
    encoder.header_table_size = maximum
    for number in range(50):
        fields = [(b"x-%d" % (number % 7), b"v" * (number % 5)), (b"y", b"%d" % (number % 3))]
        assert reader.read(encoder.encode(fields)).fields == tuple(fields)
