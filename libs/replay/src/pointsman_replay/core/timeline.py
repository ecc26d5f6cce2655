"""Virtual time: what happens next, and what time it is then."""

import heapq
from collections.abc import Callable
from typing import Any


class Timeline:
    """Runs calls in the order of their times, and of their making at the same time."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the start of the run."""
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        """Have something called at a time, at once where that is past."""
        self._count += 1
        heapq.heappush(self._due, (max(when, self.now), self._count, call, arguments))

    def run_until(self, when: float) -> None:
        """Run all that is due by then, and let that time be now."""
        due = self._due
        while due and due[0][0] <= when:
            self.step()
        self.now = when

    def step(self) -> bool:
        """Run the next call; returns whether there was one."""
        if not self._due:
            return False
        self.now, _, call, arguments = heapq.heappop(self._due)
        call(*arguments)
        return True
