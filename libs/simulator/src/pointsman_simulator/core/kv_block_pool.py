"""Which KV blocks are held, which are only cached, and which go first when room is needed.

    private ──publish──▶ shared ──last release──▶ idle ──needed──▶ evicted
       ▲                    ▲                       │
       └── allocate         └───────acquire─────────┘

A *private* block belongs to one running request and has no name: the prompt's last partial block
and the output. A *shared* block is named by its chained hash and pinned by one or more running
requests. An *idle* block is cached and held by nobody; the least recently released is evicted
first, and of one request's blocks the last, so that a chain never loses its head before its tail.
Blocks are counted, not numbered. Invariant: shared + private + idle <= capacity.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence

from pointsman_simulator.core.engine_events import BlocksRemoved, BlocksStored, KvEvent

MAX_UNDRAINED_EVENTS = 100_000


class KvBlockPool:
    """The blocks of one engine."""

    def __init__(self, capacity: int, *, record_events: bool = False) -> None:
        self.capacity = capacity
        self.gains = 0
        """Grows whenever a prompt that did not fit might fit now."""
        self._references: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._private = 0
        self._events: deque[KvEvent] | None = (
            deque(maxlen=MAX_UNDRAINED_EVENTS) if record_events else None
        )

    @property
    def used(self) -> int:
        """Blocks held by running requests."""
        return len(self._references) + self._private

    @property
    def available(self) -> int:
        """Blocks that can be allocated, evicting idle ones."""
        return self.capacity - len(self._references) - self._private

    @property
    def idle(self) -> int:
        """Cached blocks that nobody holds."""
        return len(self._idle)

    def match(self, block_hashes: Sequence[int], limit: int) -> tuple[int, int]:
        """Return how many leading blocks are cached, at most `limit`, and how many of them idle."""
        references, idle = self._references, self._idle
        hits = idle_hits = 0
        for block_hash in block_hashes:
            if hits >= limit:
                break
            if block_hash in idle:
                idle_hits += 1
            elif block_hash not in references:
                break
            hits += 1
        return hits, idle_hits

    def acquire(self, block_hashes: Sequence[int], count: int) -> None:
        """Pin the first `count` blocks, which `match` has just found."""
        references, idle = self._references, self._idle
        for block_hash in block_hashes[:count]:
            if block_hash in idle:
                del idle[block_hash]
                references[block_hash] = 1
            else:
                references[block_hash] += 1

    def allocate(self, count: int) -> None:
        """Take `count` private blocks, evicting idle ones; the caller has seen them `available`."""
        self._private += count
        excess = len(self._idle) - self.available
        if excess > 0:
            evict = self._idle.popitem
            evicted = [evict(last=False)[0] for _ in range(excess)]
            if self._events is not None:
                self._events.append(BlocksRemoved(tuple(evicted)))

    def publish(self, request_id: str, block_hashes: Sequence[int], start: int, stop: int) -> None:
        """Name the private blocks `start` to `stop` of a prompt, so that others may hit them.

        A block that is cached already becomes one with its double, which frees one block.
        """
        references, idle = self._references, self._idle
        self._private -= stop - start
        first_new = start
        for index in range(start, stop):
            block_hash = block_hashes[index]
            if block_hash in references:
                references[block_hash] += 1
            else:
                references[block_hash] = 1
                if block_hash not in idle:
                    continue
                del idle[block_hash]
            self._record_stored(request_id, block_hashes, first_new, index)
            first_new = index + 1
        self._record_stored(request_id, block_hashes, first_new, stop)
        self.gains += 1

    def release(self, block_hashes: Sequence[int], shared: int, private: int) -> None:
        """Give back the first `shared` named blocks of a prompt, and `private` unnamed ones."""
        references, idle = self._references, self._idle
        self._private -= private
        for index in range(shared - 1, -1, -1):
            block_hash = block_hashes[index]
            holders = references[block_hash] - 1
            if holders:
                references[block_hash] = holders
            else:
                del references[block_hash]
                idle[block_hash] = None
        self.gains += 1

    def drain_events(self) -> list[KvEvent]:
        """Return and forget what was stored and removed; the oldest go beyond 100,000."""
        if self._events is None:
            return []
        events = list(self._events)
        self._events.clear()
        return events

    def _record_stored(
        self, request_id: str, block_hashes: Sequence[int], start: int, stop: int
    ) -> None:
        if self._events is not None and start < stop:
            parent = block_hashes[start - 1] if start else None
            stored = tuple(block_hashes[start:stop])
            self._events.append(BlocksStored(stored, parent, request_id, start))
