"""An engine's blocks in the router's chain of hashes, as far as they can be told.

The chain of docs/contracts.md: seed h0 = xxhash64(model), and for each block of prompt bytes
h_i = xxhash64(LE64(xxhash64(block)) || LE64(h_i-1)), where a token id is four bytes, little endian.
It is the router's for requests that carry token ids; a prompt in text has other bytes.

Engine blocks and the pool's blocks may differ in size if one divides the other: then a block of the
pool is there when all the engine's blocks under it are, and gone with the first of them.
"""

import struct
from collections import OrderedDict
from dataclasses import dataclass, field

from xxhash import xxh64_intdigest

from pointsman_datalayer.core.kv_event_batch import BlocksStored

BYTES_PER_TOKEN = 4
_PAIR = struct.Struct("<QQ").pack


def chain_seed(model: str) -> int:
    """Of requests without a cache salt."""
    return xxh64_intdigest(model.encode())


def next_hash(block: bytes, above: int) -> int:
    return xxh64_intdigest(_PAIR(xxh64_intdigest(block), above))


@dataclass(slots=True)
class _Block:
    """Where the chain stands at the end of one engine block."""

    above: int
    """Hash of the last whole block of the pool."""
    rest: bytes
    """Tokens after it."""
    under: tuple[int, ...]
    """Engine blocks that `rest` is of."""
    covers: list[int] = field(default_factory=list[int])
    """Blocks of the pool that are gone when this one is."""


@dataclass(slots=True)
class RouterChain:
    """The blocks of one endpoint; the oldest are forgotten beyond `capacity`."""

    block_tokens: int
    capacity: int = 1 << 18
    _blocks: OrderedDict[int, _Block] = field(default_factory=OrderedDict[int, _Block])

    def store(self, event: BlocksStored, model: str) -> list[int] | None:
        """The pool's blocks that are there now; `None` when they cannot be told."""
        size = event.block_tokens
        fits = self.block_tokens % size == 0 or size % self.block_tokens == 0
        if not fits or event.keyed or len(event.tokens) != size * len(event.hashes):
            return None
        if event.parent is None:
            state = _Block(chain_seed(model), b"", ())
        else:
            parent = self._blocks.get(event.parent)
            if parent is None:
                return None
            state = parent
        packed = struct.pack(f"<{len(event.tokens)}I", *event.tokens)
        step, stored = size * BYTES_PER_TOKEN, list[int]()
        for index, block in enumerate(event.hashes):
            state = self._extend(state, block, packed[index * step : (index + 1) * step], stored)
        while len(self._blocks) > self.capacity:
            self._blocks.popitem(last=False)
        return stored

    def remove(self, hashes: tuple[int, ...]) -> list[int]:
        """The pool's blocks that are gone with these of the engine."""
        gone: dict[int, None] = {}
        for block in hashes:
            known = self._blocks.pop(block, None)
            if known is not None:
                gone.update(dict.fromkeys(known.covers))
        return list(gone)

    def clear(self) -> None:
        self._blocks.clear()

    def _extend(self, parent: _Block, block: int, tokens: bytes, stored: list[int]) -> _Block:
        whole = self.block_tokens * BYTES_PER_TOKEN
        data, under, above = parent.rest + tokens, (*parent.under, block), parent.above
        state = _Block(above, b"", under)
        self._blocks.pop(block, None)
        self._blocks[block] = state
        while len(data) >= whole:
            above = next_hash(data[:whole], above)
            data = data[whole:]
            stored.append(above)
            for part in under:
                if part in self._blocks and above not in self._blocks[part].covers:
                    self._blocks[part].covers.append(above)
        state.above, state.rest = above, data
        state.under = under if data else ()
        return state
