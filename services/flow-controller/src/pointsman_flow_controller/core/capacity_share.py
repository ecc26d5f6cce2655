"""How much of a pool's free capacity this replica may take while others want some of it too.

Every replica sees the whole pool's load, its own at once and the others' as soon as the bus tells
of it. So all see that a place has become free, and without a rule all would take it. The rule:
each place that becomes free adds this replica's share of it to its credit, and each request that it
lets go takes one off. The credits of all replicas add up to what is free, so that each place is
taken about once, and none waits long.

    room for all that wait everywhere ──▶ go, whatever the credit
    only as much room as higher priorities elsewhere want ──▶ wait
    credit of half a place or more ──▶ go
    room that nobody has taken for a while ──▶ go: who was to take it does not want it, or is gone
"""

from collections.abc import Callable

from pointsman_flow_controller.core.share_board import ShareBoard

LEFT_FOR_S = 0.1
"""Room left for so long is anybody's: two exchanges of demand. Replicas come one after the other,
each half as long later again, so that not all take it."""


class CapacityShare:
    def __init__(self, board: ShareBoard) -> None:
        self.board = board
        self.credit = 0.0
        self._room: float | None = None
        """At the last look; `None`: nobody else wanted any."""
        self._elsewhere = 0
        self._ceiling = 0.0
        self._left_since: float | None = None

    def may_go(
        self,
        priority: int,
        *,
        waiting: int,
        ceiling: float,
        room: Callable[[int], int],
        elsewhere: int,
        now: float,
    ) -> bool:
        """Whether one more request may go; if so, tell `took`.

        `waiting` requests of the priority wait here. `room(n)` says how many more would fit, up to
        n, below the saturation `ceiling`. `elsewhere` counts what other replicas have let go.
        """
        above, same = self.board.contested(priority)
        if not above and not same:
            self.settle()
            return True
        wanted = above + same + waiting
        free = room(wanted)
        if free >= wanted:
            self.settle()
            return True
        self._earn(priority, free, ceiling, elsewhere, above=above)
        if free - above >= 1 and self.credit >= 0.5:
            return True
        return self._is_left(free - above, now)

    def took(self) -> None:
        """A request was let go."""
        self._left_since = None
        if self._room is not None:
            self._room -= 1
            self.credit -= 1.0

    def none_left(self) -> None:
        """The pool is full."""
        self._left_since = None

    def settle(self) -> None:
        """Nobody else wants anything: nothing is owed to anybody."""
        self.credit, self._room, self._left_since = 0.0, None, None

    def next_look(self) -> float | None:
        """When room that is left may be taken; `None`: there is none."""
        return None if self._left_since is None else self._left_since + self._patience_s()

    def _earn(
        self, priority: int, free: int, ceiling: float, elsewhere: int, *, above: int
    ) -> None:
        share = 0.0 if free <= above and above else self.board.share(priority)
        if self._room is None or ceiling != self._ceiling:
            self.credit = share * free
        else:
            # What others took was free before, too.
            freed = free - self._room + (elsewhere - self._elsewhere)
            self.credit += share * max(freed, 0.0)
        self.credit = min(max(self.credit, -1.0), free + 1.0)
        self._room, self._elsewhere, self._ceiling = free, elsewhere, ceiling

    def _is_left(self, free: int, now: float) -> bool:
        if free < 1:
            self._left_since = None
            return False
        if self._left_since is None:
            self._left_since = now
        if now < self._left_since + self._patience_s():
            return False
        self.credit = max(self.credit, 0.5)
        return True

    def _patience_s(self) -> float:
        place, _ = self.board.place()
        return LEFT_FOR_S * (1.0 + 0.5 * place)
