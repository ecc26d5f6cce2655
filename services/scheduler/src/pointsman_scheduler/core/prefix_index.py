"""Which endpoint likely holds which prefix.

Each block of a prompt is known by a chained hash, which stands for the block and all before it, and
which the router seeds by model and adapter. An endpoint holds the blocks of the prompts that were
sent to it, the least recently used going first beyond the size of its cache. Kept twice: per
endpoint in order of use, and per hash as a bit mask of the endpoints that hold it, so that one walk
over a prompt's hashes matches all endpoints.

Filled from picks, and corrected by what an engine tells of its cache, where it does.
Benchmark: tests/load/bench_pick.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pointsman_common.endpoint import Endpoint
from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.recent_blocks import RecentBlocks

_FEW_BITS = 8
"""Up to so many endpoints are read from a mask bit by bit, which is then faster than unpacking."""

_FEW_RUNS = 16
"""Stretches of a prompt held by the same endpoints that are looked for at the speed of C, each by a
pass over the rest of the prompt; a prompt of more is walked."""

_ENTRY_BYTES = 250
"""Memory that an entry takes while its mask is short."""


@dataclass(slots=True)
class _Holder:
    slot: int
    epoch: int
    capacity: int
    """Blocks."""
    blocks: RecentBlocks = field(default_factory=RecentBlocks)


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

    def held(self, uid: str) -> int:
        """Entries of one endpoint."""
        holder = self._holders.get(uid)
        return 0 if holder is None else len(holder.blocks)

    def epochs(self) -> dict[str, int]:
        """The epoch by uid of each endpoint that is known."""
        return {uid: holder.epoch for uid, holder in self._holders.items()}

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
                self._drop(holder, holder.blocks.clear())
        for uid in self._holders.keys() - known:
            holder = self._holders.pop(uid)
            self._drop(holder, holder.blocks.clear())
            self._free_slots.append(holder.slot)
        mask_bytes = self._slots * 4 // 30  # Python's integers keep 30 bits in 4 bytes
        self._most = max(1, self._max_blocks * _ENTRY_BYTES // (_ENTRY_BYTES + mask_bytes))
        for holder in self._holders.values():  # shares and caches may have become smaller
            self._trim(holder, self._room(holder))

    def insert(self, uid: str, hashes: Sequence[int]) -> None:
        """A prompt of these blocks, or the tail of one, was sent to the endpoint."""
        holder = self._holders.get(uid)
        if holder is None or not hashes:
            return
        room = self._room(holder)
        # Of a chain longer than the cache only the head can be there.
        new = holder.blocks.touch(hashes if len(hashes) <= room else hashes[:room])
        if new:
            self._add(holder, new)
            self._trim(holder, room)

    def insert_older(self, uid: str, hashes: Sequence[int]) -> bool:
        """A prompt of these blocks was sent to the endpoint before all that is known of it.

        Returns whether there is room for more.
        """
        holder = self._holders.get(uid)
        if holder is None:
            return False
        free = min(self._room(holder) - len(holder.blocks), self._most - self._size)
        if free > 0:
            self._add(holder, holder.blocks.add_older(hashes[:free]))
        return free > len(hashes)

    def remove(self, uid: str, hashes: Iterable[int]) -> None:
        """The endpoint does not hold these blocks any more."""
        holder = self._holders.get(uid)
        if holder is not None:
            self._drop(holder, holder.blocks.discard(hashes))

    def clear(self, uid: str) -> None:
        """The endpoint holds nothing any more."""
        holder = self._holders.get(uid)
        if holder is not None:
            self._drop(holder, holder.blocks.clear())

    def prompts(
        self, uid: str, *, older_than: int | None = None
    ) -> Iterator[tuple[int, Sequence[int]]]:
        """What the endpoint holds, last used first: see `RecentBlocks.prompts`."""
        holder = self._holders.get(uid)
        return iter(()) if holder is None else holder.blocks.prompts(older_than=older_than)

    def match(self, hashes: Sequence[int]) -> FloatArray:
        """Leading blocks that each endpoint holds, by slot."""
        counts = np.zeros(self._slots)
        masks = list(map(self._masks.get, hashes))
        length, start = len(masks), 0
        holding = masks[0] if masks else None
        # Along a chain the endpoints that hold a block become fewer and fewer, and blocks that came
        # together share one mask. So the end of a stretch is found by counting its mask.
        for _ in range(_FEW_RUNS):
            if not holding:
                return counts
            mask = masks[start]
            rest = masks[start:] if start else masks
            run = rest.count(mask)
            if run < len(rest) and rest[:run].count(mask) != run:
                break  # not in one piece: of some chain a part in the middle was forgotten
            start += run
            still = holding & (masks[start] or 0) if start < length else 0
            if still != holding:
                _note(counts, holding ^ still, start)
                holding = still
        self._walk(masks, start, holding, counts)
        return counts

    def _walk(
        self, masks: list[int | None], start: int, holding: int | None, counts: FloatArray
    ) -> None:
        """Match block by block from `start` on, where `holding` hold all before it."""
        for matched in range(start, len(masks)):
            if not holding:
                return
            still = holding & (masks[matched] or 0)
            if still != holding:
                _note(counts, holding ^ still, matched)
                holding = still
        if holding:
            _note(counts, holding, len(masks))

    def _room(self, holder: _Holder) -> int:
        return min(holder.capacity, max(1, self._most // len(self._holders)))

    def _trim(self, holder: _Holder, room: int) -> None:
        excess = max(len(holder.blocks) - room, self._size - self._most)
        if excess > 0:
            self._drop(holder, holder.blocks.pop_oldest(excess))

    def _add(self, holder: _Holder, blocks: list[int]) -> None:
        """Note that the endpoint holds these now, which it did not. Neighbours share a mask."""
        masks, bit = self._masks, 1 << holder.slot
        before, after = None, bit
        for block in blocks:
            mask = masks.get(block)
            if mask is not before:
                before, after = mask, (mask or 0) | bit
            masks[block] = after
        self._size += len(blocks)

    def _drop(self, holder: _Holder, blocks: list[int]) -> None:
        """Note that the endpoint does not hold these any more, which it did."""
        masks, bit = self._masks, 1 << holder.slot
        before, after = bit, 0
        for block in blocks:
            mask = masks[block]
            if mask is not before:
                before, after = mask, mask ^ bit
            if after:
                masks[block] = after
            else:
                del masks[block]
        self._size -= len(blocks)

    def _take_slot(self) -> int:
        if self._free_slots:
            return self._free_slots.pop()
        self._slots += 1
        return self._slots - 1


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
