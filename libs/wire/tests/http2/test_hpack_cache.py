"""RFC 7541: its examples, and that the caches change nothing."""

from collections.abc import Sequence

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.http2.header_encoding import encode_fields, encode_integer
from wire.http2.hpack_cache import HeaderBlockReader

Fields = list[tuple[bytes, bytes]]


def reader() -> HeaderBlockReader:
    return HeaderBlockReader(max_list_bytes=32_768)


FIRST = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"www.example.com"),
]
THIRD = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
    (b"custom-key", b"custom-value"),
]
SEQUENCES: list[tuple[str, list[tuple[str, Fields]]]] = [
    (
        "C.2.1 literal with indexing",
        [
            (
                "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
                [(b"custom-key", b"custom-header")],
            )
        ],
    ),
    (
        "C.2.2 literal without indexing",
        [("040c2f73616d706c652f70617468", [(b":path", b"/sample/path")])],
    ),
    (
        "C.2.3 literal never indexed",
        [("100870617373776f726406736563726574", [(b"password", b"secret")])],
    ),
    ("C.2.4 indexed", [("82", [(b":method", b"GET")])]),
    (
        "C.3 requests without Huffman",
        [
            ("828684410f7777772e6578616d706c652e636f6d", FIRST),
            ("828684be58086e6f2d6361636865", [*FIRST, (b"cache-control", b"no-cache")]),
            ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", THIRD),
        ],
    ),
    (
        "C.4 requests with Huffman",
        [
            ("828684418cf1e3c2e5f23a6ba0ab90f4ff", FIRST),
            ("828684be5886a8eb10649cbf", [*FIRST, (b"cache-control", b"no-cache")]),
            ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", THIRD),
        ],
    ),
]


@pytest.mark.parametrize(("name", "blocks"), SEQUENCES, ids=[name for name, _ in SEQUENCES])
def test_the_examples_of_appendix_c(name: str, blocks: Sequence[tuple[str, Fields]]) -> None:
    decoder = reader()
    for raw, fields in blocks:
        assert list(decoder.read(bytes.fromhex(raw)).fields) == fields


def test_a_block_that_leaves_the_table_alone_is_decoded_once() -> None:
    decoder, block = reader(), encode_fields(FIRST)
    assert decoder.read(block) is decoder.read(block)


def test_a_block_is_decoded_anew_when_the_table_has_changed() -> None:
    decoder, reference = reader(), b"\xbe"  # the newest entry of the dynamic table
    decoder.read(b"\x40\x01a\x01b")
    assert decoder.read(reference).fields == ((b"a", b"b"),)
    decoder.read(b"\x40\x01c\x01d")
    assert decoder.read(reference).fields == ((b"c", b"d"),)


def test_a_table_of_size_0_forgets_its_entries() -> None:
    decoder = reader()
    decoder.read(b"\x40\x01a\x01b")
    with pytest.raises(Exception, match="COMPRESSION_ERROR"):
        decoder.read(b"\x20\xbe")


names = st.text("abcdefghij-", min_size=1, max_size=12).map(str.encode)
values = st.one_of(st.sampled_from([b"", b"GET", b"trailers"]), st.binary(max_size=40))
field_lists = st.lists(st.tuples(names, values), max_size=12)


@given(st.lists(field_lists, min_size=1, max_size=8), st.integers(0, 4096), st.booleans())
def test_whatever_the_hpack_library_encodes_is_read_as_its_own_decoder_reads_it(
    lists: list[Fields], table_bytes: int, huffman: bool
) -> None:
    encoder, decoder = hpack.Encoder(), reader()
    encoder.header_table_size = table_bytes
    for fields in [*lists, *lists]:
        assert list(decoder.read(encoder.encode(fields, huffman=huffman)).fields) == fields


@given(field_lists)
def test_what_we_encode_the_hpack_library_reads(fields: Fields) -> None:
    assert list(hpack.Decoder().decode(encode_fields(fields), raw=True)) == fields
    assert list(reader().read(encode_fields(fields)).fields) == fields


@pytest.mark.parametrize(
    ("number", "prefix_bits", "octets"), [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a")]
)
def test_c_1_integers(number: int, prefix_bits: int, octets: str) -> None:
    assert encode_integer(number, prefix_bits=prefix_bits) == bytes.fromhex(octets)
