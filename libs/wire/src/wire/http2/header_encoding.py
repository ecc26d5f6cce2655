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

_ONE_OCTET_SIZES = 0x7F
_OCTETS = [bytes((size,)) for size in range(_ONE_OCTET_SIZES)]

EMPTY_TABLE = b"\x20"
"""A size update to 0 (section 6.3): owed to a peer that shrinks its table below what it was."""


def encode_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The block of `fields`, names in lower case."""
    return b"".join(_encode_field(name, value) for name, value in fields)


def _encode_field(name: bytes, value: bytes) -> bytes:
    if (index := _INDEX_OF_FIELD.get((name, value))) is not None:
        return encode_integer(index, prefix_bits=7, pattern=0x80)  # section 6.1
    return encode_field_name(name) + encode_value(value)


def encode_field_name(name: bytes) -> bytes:
    """The name of a field whose value follows by `encode_value`: section 6.2.2, a literal that
    leaves the table alone, its name by index where there is one."""
    if (index := _INDEX_OF_NAME.get(name)) is not None:
        return encode_integer(index, prefix_bits=4)
    return b"\x00" + encode_value(name)


def encode_value(value: bytes) -> bytes:
    """A string without Huffman code (section 5.2)."""
    size = len(value)
    if size < _ONE_OCTET_SIZES:
        return _OCTETS[size] + value
    return encode_integer(size, prefix_bits=7) + value


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
