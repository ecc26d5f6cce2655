"""The Huffman code of HPACK, RFC 7541 section 5.2 and appendix B, decoded an octet at a time.

A step says what an octet of input completes in a state (the node of the code's tree that the bits
so far lead to) and which state follows. Steps are worked out when they are first needed and kept:
256 states by 256 octets bound them, and ordinary text needs a few hundred.
"""

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

_EOS = 256
_LONGEST_PADDING_BITS = 7
_ROOT = 0


class HuffmanError(ValueError):
    """Not of the code: it holds EOS, or ends with other than the beginning of EOS."""


def _build_tree() -> tuple[list[list[int]], frozenset[int]]:
    """The nodes of the tree, each with what follows on 0 and 1 (a node, or `~symbol`), and the
    nodes where an input may end."""
    nodes = [[0, 0]]
    for symbol, (code, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)):
        node = _ROOT
        for bit in range(length - 1, 0, -1):
            turn = code >> bit & 1
            if not nodes[node][turn]:
                nodes.append([0, 0])
                nodes[node][turn] = len(nodes) - 1
            node = nodes[node][turn]
        nodes[node][code & 1] = ~symbol
    node, ends = _ROOT, [_ROOT]
    for _ in range(_LONGEST_PADDING_BITS):
        node = nodes[node][1]
        ends.append(node)
    return nodes, frozenset(ends)


_NODES, _ENDS = _build_tree()


class _Steps(dict[int, tuple[bytes, int]]):
    """By `state << 8 | octet`."""

    def __missing__(self, key: int) -> tuple[bytes, int]:
        node, octet = key >> 8, key & 0xFF
        decoded = bytearray()
        for bit in range(7, -1, -1):
            node = _NODES[node][octet >> bit & 1]
            if node < 0:
                if ~node == _EOS:
                    raise HuffmanError("EOS within a string")
                decoded.append(~node)
                node = _ROOT
        step = self[key] = bytes(decoded), node
        return step


_STEPS = _Steps()


def decode_huffman(data: bytes) -> bytes:
    """Raises HuffmanError."""
    steps, state = _STEPS, _ROOT
    parts: list[bytes] = []
    for octet in data:
        part, state = steps[state << 8 | octet]
        parts.append(part)
    if state not in _ENDS:
        raise HuffmanError("padding is not the beginning of EOS, or too long")
    return b"".join(parts)
