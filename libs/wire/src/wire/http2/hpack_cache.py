"""Header blocks that we receive: HPACK (RFC 7541) behind three caches.

- Whole blocks: a peer sends the same few blocks again and again. A block that left the dynamic
  table alone means the same as long as the table does not change, so it is decoded once.
- Huffman strings: of the blocks that do differ (a new traceparent each), most strings are known.
- Fields found well formed, likewise.

The tables and the Huffman code are those of the `hpack` library; its decoder is not used, because
it offers no place for the caches. Time per block: 0.1 us known, 5 to 15 us new.
"""

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from wire.http2.errors import ErrorCode, Http2ConnectionError, too_much
from wire.http2.field_rules import field_fault
from wire.http2.settings import DEFAULT_HEADER_TABLE_BYTES

Field = tuple[bytes, bytes]

_STATIC = HeaderTable.STATIC_TABLE
_FIELD_OVERHEAD_BYTES = 32
_MAX_INTEGER_OCTETS = 5
_BLOCKS_KEPT = 256
_STRINGS_KEPT = 1024
_FIELDS_KEPT = 1024
_LONGEST_STRING_KEPT = 128


class HeaderBlock:
    """The fields of one block in order, and what is wrong with one of them, if anything is.

    `memo` is free for what a reader of the fields worked out.
    """

    __slots__ = ("fault", "fields", "memo")

    def __init__(self, fields: tuple[Field, ...], fault: str | None = None) -> None:
        self.fields, self.fault = fields, fault
        self.memo: object | None = None


class HeaderBlockReader:
    """The decoding half of one connection; owns its dynamic table."""

    def __init__(self, *, max_list_bytes: int) -> None:
        self._max_list_bytes = max_list_bytes
        self._table = HeaderTable()
        self._blocks: dict[bytes, HeaderBlock] = {}
        self._strings: dict[bytes, bytes] = {}
        self._good_fields: set[Field] = set()

    def read(self, block: bytes) -> HeaderBlock:
        """Decode one block, or find it.

        Raises:
            Http2ConnectionError: COMPRESSION_ERROR, or ENHANCE_YOUR_CALM past `max_list_bytes`.
        """
        known = self._blocks.get(block)
        if known is not None:
            return known
        try:
            fields, changed = self._decode(block)
        except (HPACKError, IndexError) as error:
            raise Http2ConnectionError(ErrorCode.COMPRESSION_ERROR, repr(error)) from error
        decoded = HeaderBlock(tuple(fields), self._fault(fields))
        if changed or len(self._blocks) >= _BLOCKS_KEPT:
            self._blocks.clear()
        if not changed:
            self._blocks[block] = decoded
        return decoded

    def _decode(self, block: bytes) -> tuple[list[Field], bool]:
        """The fields, and whether the dynamic table may mean something else now."""
        table = self._table
        fields: list[Field] = []
        position, end, list_bytes, changed = 0, len(block), 0, False
        while position < end:
            octet = block[position]
            if octet & 0x80:  # 6.1, an indexed field
                index = octet & 0x7F
                position += 1
                if index == 0x7F:
                    index, position = _read_integer(block, position - 1, 0x7F)
                field = _STATIC[index - 1] if 0 < index <= len(_STATIC) else self._entry(index)
            elif octet & 0xE0 == 0x20:  # 6.3, a new size of the dynamic table
                size, position = _read_integer(block, position, 0x1F)
                if fields or size > DEFAULT_HEADER_TABLE_BYTES:
                    raise HPACKError("table size update late or over our setting")
                table.maxsize = size
                changed = True
                continue
            else:  # 6.2, a literal: to be indexed (01), or not (0000), or never (0001)
                indexed = octet & 0x40
                index, position = _read_integer(block, position, 0x3F if indexed else 0x0F)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, position = self._read_string(block, position)
                value, position = self._read_string(block, position)
                field = (name, value)
                if indexed:
                    table.add(name, value)
                    changed = True
            fields.append(field)
            list_bytes += len(field[0]) + len(field[1]) + _FIELD_OVERHEAD_BYTES
            if list_bytes > self._max_list_bytes:
                raise too_much("header list")
        return fields, changed

    def _fault(self, fields: list[Field]) -> str | None:
        good = self._good_fields
        for field in fields:
            if field not in good:
                fault = field_fault(*field)
                if fault is not None:
                    return fault
                if len(good) >= _FIELDS_KEPT:
                    good.clear()
                good.add(field)
        return None

    def _entry(self, index: int) -> Field:
        return self._table.get_by_index(index)

    def _read_string(self, block: bytes, position: int) -> tuple[bytes, int]:
        """Section 5.2: a length, then octets, Huffman-coded if the first bit says so."""
        is_huffman = block[position] & 0x80
        length, position = _read_integer(block, position, 0x7F)
        stop = position + length
        if stop > len(block):
            raise HPACKError("string past the end of its block")
        raw = block[position:stop]
        if not is_huffman:
            return raw, stop
        value = self._strings.get(raw)
        if value is None:
            value = decode_huffman(raw)
            if length <= _LONGEST_STRING_KEPT:
                if len(self._strings) >= _STRINGS_KEPT:
                    self._strings.clear()
                self._strings[raw] = value
        return value, stop


def _read_integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """Section 5.1: the number whose prefix `mask` covers, and the position after it."""
    number = block[position] & mask
    position += 1
    if number < mask:
        return number, position
    for shift in range(0, 7 * _MAX_INTEGER_OCTETS, 7):
        octet = block[position]
        position += 1
        number += (octet & 0x7F) << shift
        if octet < 0x80:
            return number, position
    raise HPACKError("integer of too many octets")
