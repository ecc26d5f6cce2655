"""Which prompt blocks were already told of for an endpoint, so that each travels once."""

from collections.abc import Sequence

_NONE: frozenset[int] = frozenset()


class PublishedBlocks:
    """What was told is forgotten after one to two periods: those who started later hear it again.
    About `2 * max_blocks` are remembered at most.
    """

    def __init__(self, *, period_s: float, max_blocks: int = 262_144) -> None:
        self._period_s, self._max_blocks = period_s, max_blocks
        self._young: dict[str, set[int]] = {}
        self._old: dict[str, set[int]] = {}
        self._count = 0
        self._turned_at = float("-inf")

    def first_new(self, endpoint: str, hashes: Sequence[int], now: float) -> int:
        """How many leading blocks need not be sent; the others count as told from now on."""
        if now - self._turned_at >= self._period_s or self._count >= self._max_blocks:
            self._old, self._young, self._count = self._young, {}, 0
            self._turned_at = now
        young = self._young.setdefault(endpoint, set())
        old = self._old.get(endpoint, _NONE)
        told = 0
        for block in hashes:
            if block not in young and block not in old:
                break
            told += 1
        before = len(young)
        young.update(hashes[told:])
        self._count += len(young) - before
        return told
