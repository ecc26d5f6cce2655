"""The Huffman code of HPACK against the `hpack` library, RFC 7541 section 5.2."""

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import example, given
from hypothesis import strategies as st

from wire.http2.huffman import HuffmanError, decode_huffman

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


@given(st.binary(max_size=300))
@example(bytes(range(256)))
def test_what_the_library_encodes_is_decoded(text: bytes) -> None:
    assert decode_huffman(ENCODER.encode(text)) == text


@given(st.binary(max_size=40))
def test_any_octets_are_the_one_code_of_a_text_or_no_code(data: bytes) -> None:
    try:
        text = decode_huffman(data)
    except HuffmanError:
        return
    assert ENCODER.encode(text) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff", "padding"),  # 8 bits of padding
        (b"\x1f\xff", "padding"),  # "a", then 11
        (b"\x18", "padding"),  # "a", then zeros
        (b"\xff\xff\xff\xfc", "EOS"),  # its 30 bits
        (b"\xff\xff\xff\xff\xff", "EOS"),
    ],
)
def test_5_2_padding_and_eos_are_errors(data: bytes, why: str) -> None:
    with pytest.raises(HuffmanError, match=why):
        decode_huffman(data)


def test_c_4_1_an_example_of_the_specification() -> None:
    assert decode_huffman(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")) == b"www.example.com"
