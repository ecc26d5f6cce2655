"""Which blocks an endpoint likely holds: those sent to it last, up to a capacity."""

from collections import OrderedDict
from collections.abc import Sequence


class RecencyIndex:
    """Of one endpoint; `capacity` in blocks."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def match(self, hashes: Sequence[int]) -> int:
        """Leading blocks that are likely there."""
        blocks, matched = self._blocks, 0
        for block in hashes:
            if block not in blocks:
                break
            matched += 1
        return matched

    def insert(self, hashes: Sequence[int]) -> None:
        """A prompt of these blocks was sent; of a chain the tail is forgotten first."""
        blocks = self._blocks
        for block in reversed(hashes):
            blocks[block] = None
            blocks.move_to_end(block)
        while len(blocks) > self._capacity:
            blocks.popitem(last=False)
