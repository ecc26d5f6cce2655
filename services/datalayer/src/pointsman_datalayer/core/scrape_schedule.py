"""Which endpoint to scrape when. Pure: a heap of due times; the scraper asks and obeys.

Busy endpoints are scraped more often than idle ones. Where all of them together would be more
scrapes than `most_per_s`, every interval is stretched alike, so that a process with many endpoints
reads them more seldom and has time left to tell what it has read.
"""

import heapq
import math
from collections.abc import Collection, Sequence
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

    def __init__(
        self, intervals: ScrapeIntervals, rng: Random, *, most_per_s: float = math.inf
    ) -> None:
        self._intervals, self._rng, self._most_per_s = intervals, rng, most_per_s
        self._busy: set[str] = set()
        self._new: set[str] = set()
        self._heap: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._due) + len(self._started)

    def follow(self, uids: Sequence[str], now: float) -> None:
        """Take up new endpoints, and forget those that are gone.

        New ones come in the order given, as fast as may be, at the latest within one interval: they
        may have been another replica's, and their metrics grow old.
        """
        wanted, known = set(uids), self._due.keys() | self._started.keys()
        for uid in known - wanted:
            self._due.pop(uid, None)
            self._started.pop(uid, None)
            self._busy.discard(uid)
            self._new.discard(uid)
        new = [uid for uid in uids if uid not in known]
        self._new |= set(new)
        within_s = min(len(new) / self._most_per_s, self._stretch() * self._intervals.busy_s)
        for number, uid in enumerate(new):
            self._plan(uid, now + within_s * number / len(new))

    def start_due(self, now: float, within_s: float = math.inf) -> list[str]:
        """The endpoints to scrape now; each is then being scraped until `finish`.

        At most as many as may begin in `within_s` seconds at twice the pace, so that a process that
        has fallen behind does not take up everything at once.
        """
        most = max(1.0, 2.0 * self._most_per_s * within_s)
        started: list[str] = []
        while self._heap and self._heap[0][0] <= now and len(started) < most:
            at, uid = heapq.heappop(self._heap)
            if self._due.get(uid) == at:
                del self._due[uid]
                self._started[uid] = now
                started.append(uid)
        return started

    def finish(self, uid: str, now: float, *, busy: bool) -> None:
        """The scrape has ended, well or not: plan the next, counted from its start."""
        started = self._started.pop(uid, None)
        if started is None:
            return
        if busy:
            self._busy.add(uid)
        else:
            self._busy.discard(uid)
        interval_s = self._stretch() * self._intervals.after(self._rng, busy=busy)
        if uid in self._new:  # those that came together are spread over an interval
            self._new.discard(uid)
            interval_s *= self._rng.random()
        self._plan(uid, max(now, started + interval_s))

    def hasten(self, uids: Collection[str], now: float) -> None:
        """Work has come to an idle pool: its endpoints are due within a busy interval."""
        within_s = self._stretch() * self._intervals.busy_s
        for uid in uids:
            if self._due.get(uid, now) > now + within_s:
                self._plan(uid, now + within_s * self._rng.random())

    def _stretch(self) -> float:
        """By how much intervals are longer than they should be; 1: there are not too many."""
        busy = len(self._busy)
        wanted = busy / self._intervals.busy_s + (len(self) - busy) / self._intervals.idle_s
        return max(1.0, wanted / self._most_per_s)

    def _plan(self, uid: str, at: float) -> None:
        self._due[uid] = at
        heapq.heappush(self._heap, (at, uid))
