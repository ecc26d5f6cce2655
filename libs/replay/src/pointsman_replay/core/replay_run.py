"""One run: a trace at its arrivals, through one policy, over one pool of engines."""

from collections.abc import Callable
from random import Random

import msgspec

from pointsman_replay.core.policies.policy import BuildPolicy, Policy, Surroundings
from pointsman_replay.core.policies.simple import RoundRobin
from pointsman_replay.core.timeline import Timeline
from pointsman_replay.core.trace import ReplayError, Trace, with_times
from pointsman_replay.core.virtual_pool import ScrapeTiming, VirtualPool
from pointsman_simulator.core.engine_events import Finished, FirstToken
from pointsman_simulator.core.engine_profile import EngineProfile

PROGRESS_EVERY = 250
DRAINED_SHARE = 0.95
"""The tail of a drain, when engines run empty one by one, says nothing of their rate."""

Progress = Callable[[float], None]
"""Told how much of a run is done, 0 to 1."""


class Served(msgspec.Struct, frozen=True, gc=False):
    """How one request fared; times in seconds of the run."""

    row: int
    arrived_at: float
    first_token_at: float
    finished_at: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    preemptions: int


class RunResult(msgspec.Struct, frozen=True):
    served: tuple[Served, ...]
    """In the order of arrival."""
    refused: int
    replicas: int


class ReplayRun:
    """Use once: `run`."""

    def __init__(
        self,
        trace: Trace,
        profile: EngineProfile,
        replicas: int,
        build_policy: BuildPolicy,
        *,
        seed: str,
        scrapes: ScrapeTiming | None = None,
    ) -> None:
        self._requests, self._replicas = trace.requests, replicas
        self._timeline = Timeline()
        self._rows = [-1] * len(trace.requests)
        self._served: list[Served | None] = [None] * len(trace.requests)
        self._left = len(trace.requests)
        self.pool = VirtualPool(
            self._timeline,
            profile,
            replicas,
            block_tokens=trace.block_tokens,
            scrapes=scrapes or ScrapeTiming(),
            on_first_token=self._on_first_token,
            on_finished=self._on_finished,
        )
        surroundings = Surroundings(self._timeline, self.pool, trace.block_tokens, Random(seed))
        self.policy: Policy = build_policy(surroundings)

    def run(self, progress: Progress | None = None) -> RunResult:
        """Let all requests arrive, and all answers end."""
        try:
            refused = self._serve_all(progress or (lambda _: None))
        finally:
            self.policy.close()
        served = tuple(one for one in self._served if one is not None)
        return RunResult(served, refused, self._replicas)

    def _serve_all(self, progress: Progress) -> int:
        timeline, refused = self._timeline, 0
        for number, request in enumerate(self._requests):
            timeline.run_until(request.at_s)
            row = self.policy.pick(number, request)
            if row is None:
                refused += 1
                self._left -= 1
            else:
                self._rows[number] = row
                self.pool.submit(row, number, request)
            if number % PROGRESS_EVERY == 0:
                progress(number / len(self._requests))
        while self._left and timeline.step():
            pass
        progress(1.0)
        return refused

    def _on_first_token(self, number: int, event: FirstToken) -> None:
        del event
        self.policy.first_token(number, self._requests[number], self._rows[number])

    def _on_finished(self, number: int, event: Finished) -> None:
        self._left -= 1
        self._served[number] = Served(
            row=self._rows[number],
            arrived_at=event.arrived_at,
            first_token_at=event.first_token_at,
            finished_at=event.at,
            prompt_tokens=event.prompt_tokens,
            cached_tokens=event.cached_tokens,
            output_tokens=event.output_tokens,
            preemptions=event.preemptions,
        )
        self.policy.finished(number, self._requests[number], self._rows[number])


def full_load_span_s(trace: Trace, profile: EngineProfile, replicas: int) -> float:
    """Return how long the trace's arrivals take at load 1.0.

    That is as fast as round-robin serves them when all are there from the start: the time by which
    95 % of the answers have ended, over 0.95.

    Raises:
        ReplayError: the trace has a single request, which is no load.
    """
    if len(trace.requests) < 2:
        raise ReplayError(f"{trace.name}: one request makes no load")
    at_once = with_times(trace, [0.0] * len(trace.requests))
    result = ReplayRun(at_once, profile, replicas, RoundRobin, seed="drain").run()
    ends = sorted(one.finished_at for one in result.served)
    # The 95 % quantile between its neighbours, as numpy's percentile.
    place = DRAINED_SHARE * (len(ends) - 1)
    below = int(place)
    above = min(below + 1, len(ends) - 1)
    return (ends[below] + (place - below) * (ends[above] - ends[below])) / DRAINED_SHARE
