"""The prompt blocks that one endpoint likely holds, in the order of their last use.

A prompt is touched as a whole, at one stamp. Its blocks keep the stamp of their last use in a
dictionary, and the prompt is written once to a log; a block stands in the log wherever it was
touched, but counts only where its stamp is still that of the entry. So a touch is a few operations
at the speed of C however long the prompt, and the least recently used block is found by reading the
log from its old end. Numbers in a dictionary are nothing that the garbage collector has to walk.
Benchmark: tests/load/bench_pick.py.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import filterfalse, islice

_SLACK = 64
"""Blocks that the log may hold beyond three times those in use before it is rewritten."""


class RecentBlocks:
    """A prompt's first blocks count as used after its last: a tail without its head is useless."""

    def __init__(self) -> None:
        self._used: dict[int, int] = {}
        """Stamp of the last use, by hash."""
        self._log: deque[tuple[int, Sequence[int]]] = deque()
        """Prompts by stamp, oldest first."""
        self._logged = 0
        """Blocks in the log, those out of date included."""
        self._examined = 0
        """Blocks at the end of the oldest entry that were looked at already."""
        self._newest = 0
        self._oldest = 0
        """Stamps given at the new end, upwards, and at the old end, downwards."""

    def __len__(self) -> int:
        return len(self._used)

    def __contains__(self, block: object) -> bool:
        return block in self._used

    def touch(self, hashes: Sequence[int]) -> list[int]:
        """A prompt of these blocks is used now; returns those that were not there."""
        used = self._used
        new = list(dict.fromkeys(filterfalse(used.__contains__, hashes)))
        self._newest += 1
        used.update(dict.fromkeys(hashes, self._newest))
        self._log.append((self._newest, hashes))
        self._logged += len(hashes)
        self._rewrite_if_long()
        return new

    def add_older(self, hashes: Sequence[int]) -> list[int]:
        """A prompt of these blocks was used before all that is here; returns those not there."""
        used = self._used
        new = list(dict.fromkeys(filterfalse(used.__contains__, hashes)))
        if new:
            self._forget_examined()
            self._oldest -= 1
            used.update(dict.fromkeys(new, self._oldest))
            self._log.appendleft((self._oldest, new))
            self._logged += len(new)
        return new

    def discard(self, hashes: Iterable[int]) -> list[int]:
        """These are not there any more; returns those that were."""
        used = self._used
        gone = [block for block in hashes if used.pop(block, None) is not None]
        if gone:
            self._rewrite_if_long()
        return gone

    def pop_oldest(self, count: int) -> list[int]:
        """Forget so many, least recently used first; all where there are not more."""
        used, log, popped = self._used, self._log, list[int]()
        while log and len(popped) < count:
            stamp, hashes = log[0]
            for block in islice(reversed(hashes), self._examined, None):
                if len(popped) == count:
                    return popped
                self._examined += 1
                if used.get(block) == stamp:
                    del used[block]
                    popped.append(block)
            log.popleft()
            self._logged -= len(hashes)
            self._examined = 0
        return popped

    def clear(self) -> list[int]:
        """Forget all; returns what was there."""
        gone = list(self._used)
        self._used.clear()
        self._log.clear()
        self._logged = self._examined = 0
        return gone

    def prompts(self, *, older_than: int | None = None) -> Iterator[tuple[int, Sequence[int]]]:
        """Stamp and blocks of each prompt, last used first, each block where it was used last.

        `older_than` leaves out those of that stamp and above, to go on where one has stopped.
        """
        for stamp, hashes in reversed(self._log):
            if older_than is None or stamp < older_than:
                held = self._still_held(stamp, hashes)
                if held:
                    yield stamp, held

    def _still_held(self, stamp: int, hashes: Sequence[int]) -> Sequence[int]:
        """Those of a prompt whose last use was then, once each."""
        count = list(map(self._used.get, hashes)).count(stamp)
        if count == len(hashes) or not count:
            return hashes if count else ()
        used = self._used
        return list(dict.fromkeys(block for block in hashes if used.get(block) == stamp))

    def _rewrite_if_long(self) -> None:
        """Each rewrite is paid for by as many blocks logged or discarded since the last."""
        if self._logged <= 3 * len(self._used) + _SLACK:
            return
        kept = [(stamp, tuple(held)) for stamp, held in self.prompts()]
        self._log = deque(reversed(kept))
        self._logged = sum(len(hashes) for _, hashes in kept)
        self._examined = 0

    def _forget_examined(self) -> None:
        """Cut off what was looked at, before another entry becomes the oldest."""
        if self._examined:
            stamp, hashes = self._log[0]
            left = hashes[: len(hashes) - self._examined]
            self._log[0] = stamp, left
            self._logged -= self._examined
            self._examined = 0
