"""Which requests in flight are ended to make room for higher priorities, where that is allowed.

Only priorities below 0 are ended: the lowest first, of it the newest, which has the least work to
lose. At most two at a time, then a pause in which the room that they make is seen. One that is
being ended is not counted on for longer than ten seconds. Source: llm-d-router's flow control
with enableEviction and its default policies.
"""

import heapq
from collections.abc import Mapping

MOST_AT_ONCE = 2
PAUSE_S = 0.5
CONFIRMED_WITHIN_S = 10.0


class InFlightEviction:
    def __init__(self) -> None:
        self._asked: dict[str, float] = {}
        """Being ended, and since when."""
        self._not_before = float("-inf")

    @property
    def pending(self) -> int:
        """Asked for, and still running as far as is known."""
        return len(self._asked)

    def choose(
        self, sheddable: Mapping[str, tuple[int, float]], *, blocked: int, now: float
    ) -> list[str]:
        """The leases to end for `blocked` waiting requests, fewest first.

        `sheddable` holds the priority, and the time let go, of what may be ended, by lease.
        """
        if not sheddable or now < self._not_before:
            return []
        self._asked = {
            lease_id: asked_at
            for lease_id, asked_at in self._asked.items()
            if lease_id in sheddable and now - asked_at < CONFIRMED_WITHIN_S
        }
        count = min(MOST_AT_ONCE, blocked - len(self._asked))
        if count <= 0:
            return []
        candidates = (
            (priority, -let_go_at, lease_id)
            for lease_id, (priority, let_go_at) in sheddable.items()
            if lease_id not in self._asked
        )
        chosen = [lease_id for _, _, lease_id in heapq.nsmallest(count, candidates)]
        self._asked.update(dict.fromkeys(chosen, now))
        if chosen:
            self._not_before = now + PAUSE_S
        return chosen

    def next_choice(self) -> float | None:
        """When `choose` may choose again; `None`: now."""
        return self._not_before if self._asked else None
