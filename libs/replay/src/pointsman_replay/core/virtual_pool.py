"""The engines of a pool in virtual time, and what a datalayer reads of them.

An engine is only touched when something happens in it. Its metrics are those of the last step that
ended before a scrape; scrapes are a fixed period apart, staggered over the endpoints, and are read
only when somebody looks: what is seen is what an eager scraper would have seen.
"""

from collections import deque
from collections.abc import Callable

import msgspec

from pointsman_replay.core.timeline import Timeline
from pointsman_replay.core.trace import TraceRequest
from pointsman_replay.core.visible_engine import VisibleEngine
from pointsman_simulator.core.engine_events import (
    EngineRequest,
    EngineStats,
    Event,
    Finished,
    FirstToken,
)
from pointsman_simulator.core.engine_profile import EngineProfile

UNNAMED_BLOCK_TOKENS = 16
"""KV block of the engines where the trace names no blocks."""


class ScrapeTiming(msgspec.Struct, frozen=True):
    period_s: float = 0.05
    delay_s: float = 0.0
    """From the scrape until a picker has it."""


class Report(msgspec.Struct, frozen=True, gc=False):
    """An engine's metrics as of one scrape."""

    scraped_at: float
    stats: EngineStats


class VirtualPool:
    """`on_first_token` and `on_finished` are called with the request's number at the time."""

    def __init__(
        self,
        timeline: Timeline,
        profile: EngineProfile,
        replicas: int,
        *,
        block_tokens: int,
        scrapes: ScrapeTiming,
        on_first_token: Callable[[int, FirstToken], None],
        on_finished: Callable[[int, Finished], None],
    ) -> None:
        self.profile = msgspec.structs.replace(
            profile, block_size=block_tokens or UNNAMED_BLOCK_TOKENS
        )
        self._timeline = timeline
        self._on_first_token, self._on_finished = on_first_token, on_finished
        self.engines = [VisibleEngine(self.profile) for _ in range(replicas)]
        self._wakes = [0] * replicas
        self._scrapes = scrapes
        self._scraped: list[ScrapedEngine] = []

    def submit(self, row: int, number: int, request: TraceRequest) -> None:
        """Send a request to an engine, now."""
        self._before_touching(row)
        self.engines[row].submit(
            EngineRequest(
                request_id=str(number),
                prompt_tokens=request.prompt_tokens,
                output_tokens=request.output_tokens,
                block_hashes=request.block_hashes,
            ),
            self._timeline.now,
        )
        self._wake_later(row)

    def scrape(self) -> None:
        """Begin to scrape: to be called before the first request, by whoever wants reports."""
        if not self._scraped:
            period_s, replicas = self._scrapes.period_s, len(self.engines)
            self._scraped = [
                ScrapedEngine(engine, self._scrapes, phase_s=period_s * row / replicas)
                for row, engine in enumerate(self.engines)
            ]

    def report(self, row: int) -> Report:
        """The metrics of an engine that are known now, once `scrape` was called."""
        return self._scraped[row].visible(self._timeline.now)

    def _before_touching(self, row: int) -> None:
        if self._scraped:
            self._scraped[row].keep(self._timeline.now)

    def _wake_later(self, row: int) -> None:
        self._wakes[row] += 1
        when = self.engines[row].next_event_at()
        if when is not None:
            self._timeline.at(when, self._wake, row, self._wakes[row])

    def _wake(self, row: int, wake: int) -> None:
        if wake != self._wakes[row]:
            return  # something happened since, and another wake was set
        self._before_touching(row)
        for event in self.engines[row].advance(self._timeline.now):
            self._tell(event)
        self._wake_later(row)

    def _tell(self, event: Event) -> None:
        if isinstance(event, FirstToken):
            self._on_first_token(int(event.request_id), event)
        elif isinstance(event, Finished):
            self._on_finished(int(event.request_id), event)


class ScrapedEngine:
    """What is known of one engine through its scrapes, which are numbered from 0 at `phase_s`.

    An engine cannot be asked for the past. So each scrape that may still be looked at is kept
    before the engine is touched after it.
    """

    def __init__(self, engine: VisibleEngine, timing: ScrapeTiming, *, phase_s: float) -> None:
        self._engine, self._timing, self._phase_s = engine, timing, phase_s
        self._kept = deque([(-1, Report(0.0, engine.stats(0.0)))])

    def keep(self, now: float) -> None:
        """Read the scrapes up to now that somebody may yet look at."""
        newest = self._kept[-1][0]
        oldest_wanted = self._number(now - self._timing.delay_s)
        for number in range(max(newest + 1, oldest_wanted), self._number(now) + 1):
            self._read(number)
        self._forget_before(oldest_wanted)

    def visible(self, now: float) -> Report:
        wanted = self._number(now - self._timing.delay_s)
        if wanted > self._kept[-1][0]:
            self._read(wanted)
        self._forget_before(wanted)
        return self._kept[0][1]

    def _number(self, at: float) -> int:
        return max(-1, int((at - self._phase_s) // self._timing.period_s))

    def _read(self, number: int) -> None:
        at = self._phase_s + number * self._timing.period_s
        self._kept.append((number, Report(at, self._engine.stats(at))))

    def _forget_before(self, number: int) -> None:
        kept = self._kept
        while len(kept) > 1 and kept[1][0] <= number:
            kept.popleft()
