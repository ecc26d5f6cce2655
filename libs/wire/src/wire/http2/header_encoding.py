"""Header blocks that we send: HPACK without state, RFC 7541.

No dynamic table and no Huffman code: a block depends on its fields only, so it is encoded once and
kept, and the peer may do the same with what it read. Matches of the static table (appendix A) are
sent as an index.
"""

from collections.abc import Iterable

from hpack.table import HeaderTable

_INDEX_OF_FIELD = {
    field: index for index, field in reversed([*enumerate(HeaderTable.STATIC_TABLE, 1)])
}
_INDEX_OF_NAME = {name: index for (name, _), index in _INDEX_OF_FIELD.items()}

EMPTY_TABLE = b"\x20"
"""A size update to 0 (section 6.3): owed to a peer that shrinks its table below what it was."""


def encode_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The block of `fields`, names in lower case."""
    return b"".join(_encode_field(name, value) for name, value in fields)


def _encode_field(name: bytes, value: bytes) -> bytes:
    if (index := _INDEX_OF_FIELD.get((name, value))) is not None:
        return encode_integer(index, prefix_bits=7, pattern=0x80)  # section 6.1
    # Section 6.2.2: a literal that leaves the table alone, its name by index where there is one.
    if (index := _INDEX_OF_NAME.get(name)) is not None:
        return encode_integer(index, prefix_bits=4) + _encode_string(value)
    return b"\x00" + _encode_string(name) + _encode_string(value)


def _encode_string(value: bytes) -> bytes:
    return encode_integer(len(value), prefix_bits=7) + value


def encode_integer(number: int, *, prefix_bits: int, pattern: int = 0) -> bytes:
    """RFC 7541 section 5.1: `number` in a prefix of `prefix_bits`, the rest 7 bits an octet."""
    limit = (1 << prefix_bits) - 1
    if number < limit:
        return bytes((pattern | number,))
    octets = bytearray((pattern | limit,))
    number -= limit
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
