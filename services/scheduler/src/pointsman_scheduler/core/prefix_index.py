"""Which endpoint likely holds which prefix.

Each block of a prompt is known by a chained hash, which stands for the block and all before it. An
endpoint holds the blocks of the prompts that were sent to it, the least recently used going first
beyond the size of its cache. Kept twice: per endpoint in order of use, and per hash as a bit mask
of the endpoints that hold it, so that one walk over a prompt's hashes matches all endpoints.

Approximate: filled from picks. What an engine really stored or dropped is not seen.
Benchmark: tests/load/bench_pick.py.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pointsman_common.endpoint import Endpoint
from pointsman_scheduler.core.arrays import FloatArray

_FEW_BITS = 8
"""Up to so many endpoints are read from a mask bit by bit, which is then faster than unpacking."""

_ENTRY_BYTES = 250
"""Memory that an entry takes while its mask is short."""


@dataclass(slots=True)
class _Holder:
    slot: int
    epoch: int
    capacity: int
    """Blocks."""
    blocks: OrderedDict[int, None] = field(default_factory=OrderedDict[int, None])
    """Hashes, least recently used first."""


class PrefixIndex:
    """Of one pool.

    `max_blocks` bounds the entries of all endpoints together, fewer where many endpoints make the
    masks long, so that it bounds the memory too. An endpoint may hold no more than an equal share
    of it, nor more than its own cache.
    """

    def __init__(self, *, max_blocks: int, default_capacity: int) -> None:
        self._max_blocks, self._default_capacity = max_blocks, default_capacity
        self._most = max_blocks
        self._holders: dict[str, _Holder] = {}
        self._masks: dict[int, int] = {}
        self._free_slots: list[int] = []
        self._slots = 0
        self._size = 0

    def __len__(self) -> int:
        """Entries: each block once for every endpoint that holds it."""
        return self._size

    @property
    def slots(self) -> int:
        """Length of what `match` returns."""
        return self._slots

    def slot_of(self, uid: str) -> int | None:
        holder = self._holders.get(uid)
        return None if holder is None else holder.slot

    def follow(self, endpoints: Iterable[Endpoint], block_tokens: int, *, tuned: bool) -> None:
        """Know exactly these endpoints from now on.

        What an endpoint held is forgotten when it goes, and when its epoch grows: the engine was
        restarted. With `tuned`, its capacity is that of its reported KV cache in blocks of
        `block_tokens` prompt tokens, where it reports one; else the default.
        """
        known: set[str] = set()
        for endpoint in endpoints:
            known.add(endpoint.uid)
            capacity = _capacity(endpoint, block_tokens) if tuned else None
            holder = self._holders.get(endpoint.uid)
            if holder is None:
                self._holders[endpoint.uid] = _Holder(
                    self._take_slot(), endpoint.epoch, capacity or self._default_capacity
                )
                continue
            holder.capacity = capacity or self._default_capacity
            if endpoint.epoch != holder.epoch:
                holder.epoch = endpoint.epoch
                self._trim(holder, 0)
        for uid in self._holders.keys() - known:
            holder = self._holders.pop(uid)
            self._trim(holder, 0)
            self._free_slots.append(holder.slot)
        mask_bytes = self._slots * 4 // 30  # Python's integers keep 30 bits in 4 bytes
        self._most = max(1, self._max_blocks * _ENTRY_BYTES // (_ENTRY_BYTES + mask_bytes))
        for holder in self._holders.values():  # shares and caches may have become smaller
            self._trim(holder, self._room(holder))

    def insert(self, uid: str, hashes: Sequence[int]) -> None:
        """A prompt of these blocks, or the tail of one, was sent to the endpoint."""
        holder = self._holders.get(uid)
        if holder is None:
            return
        blocks, masks, bit = holder.blocks, self._masks, 1 << holder.slot
        room = self._room(holder)
        # Of a chain longer than the cache only the head can be there.
        head = hashes if len(hashes) <= room else hashes[:room]
        for block in head:
            if block not in blocks:
                blocks[block] = None
                masks[block] = masks.get(block, 0) | bit
                self._size += 1
        # The head is touched last, so that a chain loses its tail first: a tail without its head
        # is of no use.
        _exhaust(map(blocks.move_to_end, reversed(head)))
        self._trim(holder, room)

    def match(self, hashes: Sequence[int]) -> FloatArray:
        """Leading blocks that each endpoint holds, by slot."""
        counts = np.zeros(self._slots)
        before = self._masks.get(hashes[0]) if hashes else None
        if not before:
            return counts
        holding = before
        for matched, mask in enumerate(map(self._masks.get, hashes)):
            if mask == before:  # as along most of a chain: nobody drops out here
                continue
            before = mask
            still = holding & (mask or 0)
            if still != holding:
                _note(counts, holding ^ still, matched)
                holding = still
            if not holding:
                return counts
        if holding:
            _note(counts, holding, len(hashes))
        return counts

    def _room(self, holder: _Holder) -> int:
        return min(holder.capacity, max(1, self._most // len(self._holders)))

    def _trim(self, holder: _Holder, room: int) -> None:
        blocks, masks, bit = holder.blocks, self._masks, 1 << holder.slot
        while len(blocks) > room or (blocks and self._size > self._most):
            block, _ = blocks.popitem(last=False)
            left = masks[block] ^ bit
            if left:
                masks[block] = left
            else:
                del masks[block]
            self._size -= 1

    def _take_slot(self) -> int:
        if self._free_slots:
            return self._free_slots.pop()
        self._slots += 1
        return self._slots - 1


def _exhaust(calls: Iterable[object]) -> None:
    """Make the calls at the speed of C."""
    deque(calls, maxlen=0)


def _note(counts: FloatArray, mask: int, matched: int) -> None:
    if mask.bit_count() <= _FEW_BITS:
        while mask:
            lowest = mask & -mask
            counts[lowest.bit_length() - 1] = matched
            mask ^= lowest
        return
    packed = np.frombuffer(mask.to_bytes((len(counts) + 7) // 8, "little"), dtype=np.uint8)
    bits = np.unpackbits(packed, count=len(counts), bitorder="little")
    counts[bits.view(np.bool_)] = matched


def _capacity(endpoint: Endpoint, block_tokens: int) -> int | None:
    metrics = endpoint.metrics
    if not metrics.kv_cache_blocks or not metrics.block_size_tokens or not block_tokens:
        return None
    return max(1, metrics.kv_cache_blocks * metrics.block_size_tokens // block_tokens)
