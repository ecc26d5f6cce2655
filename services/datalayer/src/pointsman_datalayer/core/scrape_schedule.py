"""Which endpoint to scrape when. Pure: a heap of due times; the scraper asks and obeys."""

import heapq
from collections.abc import Collection
from dataclasses import dataclass
from random import Random

JITTER = 0.1
"""Share of the interval by which a scrape may come early or late, so that they spread."""


@dataclass(frozen=True, slots=True)
class ScrapeIntervals:
    """Seconds from the start of one scrape to that of the next."""

    busy_s: float
    idle_s: float

    def after(self, rng: Random, *, busy: bool) -> float:
        interval = self.busy_s if busy else self.idle_s
        return interval * (1.0 + JITTER * (2.0 * rng.random() - 1.0))


class ScrapeSchedule:
    """An endpoint is due, then being scraped, then planned again: never twice at once.

    An endpoint that hangs stays "being scraped" and holds up nobody.
    """

    def __init__(self, intervals: ScrapeIntervals, rng: Random) -> None:
        self._intervals, self._rng = intervals, rng
        self._heap: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._due) + len(self._started)

    def follow(self, uids: Collection[str], now: float) -> None:
        """Take up new endpoints, spread over one interval, and forget those that are gone."""
        known = self._due.keys() | self._started.keys()
        for uid in known - set(uids):
            self._due.pop(uid, None)
            self._started.pop(uid, None)
        for uid in sorted(set(uids) - known):
            self._plan(uid, now + self._intervals.busy_s * self._rng.random())

    def start_due(self, now: float) -> list[str]:
        """The endpoints to scrape now; each is then being scraped until `finish`."""
        started: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            at, uid = heapq.heappop(self._heap)
            if self._due.get(uid) == at:
                del self._due[uid]
                self._started[uid] = now
                started.append(uid)
        return started

    def finish(self, uid: str, now: float, *, busy: bool) -> None:
        """The scrape has ended, well or not: plan the next, counted from its start."""
        started = self._started.pop(uid, None)
        if started is not None:
            self._plan(uid, max(now, started + self._intervals.after(self._rng, busy=busy)))

    def hasten(self, uids: Collection[str], now: float) -> None:
        """Work has come to an idle pool: its endpoints are due within a busy interval."""
        latest = now + self._intervals.busy_s
        for uid in uids:
            if self._due.get(uid, latest) > latest:
                self._plan(uid, now + self._intervals.busy_s * self._rng.random())

    def _plan(self, uid: str, at: float) -> None:
        self._due[uid] = at
        heapq.heappush(self._heap, (at, uid))
