"""The engine: continuous batching, one step after the other, in the caller's time.

A step is planned whole when the one before it ends: a token for every decoding sequence, then
chunks of the prompts being prefilled, then newcomers, first come first served, until the token
budget is spent. Its length follows from `EngineProfile.step_s`. Nothing happens between the ends of
two steps, but arrivals and aborts, which the next plan sees.

Drive it with `submit`, `abort`, `advance`, and `next_event_at` for when to come back. Each takes
`now` in seconds on any clock that does not go back, and first finishes the steps that end by then.
"""

import math
from collections import deque
from heapq import heappop, heappush

from pointsman_simulator.core.engine_events import (
    EngineRequest,
    EngineStats,
    Event,
    Finished,
    FirstToken,
    KvEvent,
    Preempted,
    Tokens,
)
from pointsman_simulator.core.engine_profile import EngineProfile
from pointsman_simulator.core.engine_telemetry import EngineTelemetry
from pointsman_simulator.core.kv_block_pool import KvBlockPool
from pointsman_simulator.core.lora_slots import LoraSlots
from pointsman_simulator.core.sequence import Phase, Sequence


class Engine:
    """A model server's engine under one profile.

    `time_factor` stretches every step: 2.0 is an engine half as fast as its profile.
    """

    def __init__(
        self, profile: EngineProfile, *, time_factor: float = 1.0, record_kv_events: bool = False
    ) -> None:
        self.profile = profile
        self._time_factor = time_factor
        self._pool = KvBlockPool(profile.total_blocks, record_events=record_kv_events)
        self._loras = LoraSlots(profile.max_loras)
        self._telemetry = EngineTelemetry(self._pool, self._loras)
        self._reserve_blocks = math.ceil(profile.total_blocks * profile.admission_reserve)

        self._sequences: dict[str, Sequence] = {}
        self._waiting: deque[Sequence] = deque()
        self._running: dict[str, Sequence] = {}  # in the order of admission
        self._prefilling: list[Sequence] = []
        self._streaming: dict[str, Sequence] = {}  # decoding, with `Tokens` wanted
        self._refused: tuple[Sequence, int] | None = None  # head of the queue, and the pool then

        self._now = 0.0
        self._step_ends_at: float | None = None  # None when idle
        self._chunks: list[tuple[Sequence, int]] = []  # prefill of the step under way
        self._steps_started = self._steps_done = 0
        self._decoding = self._decode_context = 0
        self._block_boundaries = [0] * profile.block_size
        """Decoding sequences by the step, modulo block size, at which each needs a new block."""
        self._endings: list[tuple[int, int, Sequence]] = []  # heap; some out of date
        self._joins = 0  # breaks ties in the heap
        self._events: list[Event] = []

    # -- what callers do --------------------------------------------------------------------

    def submit(self, request: EngineRequest, now: float) -> None:
        """Queue a request.

        Raises:
            ValueError: the id is in use, a count is below 1, there are more hashes than full blocks
                in the prompt, or prompt and output can never fit.
        """
        self._run_until(now)
        self._check(request)
        sequence = Sequence(request, arrived_at=now)
        self._sequences[request.request_id] = sequence
        self._enqueue(sequence)
        if self._step_ends_at is None:
            self._begin_step(self._now)

    def abort(self, request_id: str, now: float) -> bool:
        """Drop a request and return whether it was there; the step under way keeps its length.

        Events that it made before may still come out of the next `advance`.
        """
        self._run_until(now)
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return False
        if sequence.phase is Phase.WAITING:
            self._waiting.remove(sequence)
            if lora := sequence.request.lora:
                self._loras.leave_queue(lora)
        else:
            self._stop_running(sequence)
        sequence.phase = Phase.GONE
        self._telemetry.aborted += 1
        return True

    def advance(self, now: float) -> list[Event]:
        """Finish every step that ends by `now` and return what happened since the last call."""
        self._run_until(now)
        for sequence in self._streaming.values():
            self._tell_tokens(sequence, self._now)
        events, self._events = self._events, []
        return events

    def next_event_at(self) -> float | None:
        """Return the earliest time at which `advance` can bring events; None when there is no work.

        While all that runs decodes unstreamed, this leaps to the next end of a request.
        """
        if self._step_ends_at is None:
            return self._now if self._events else None
        ending = self._next_ending()
        if self._events:
            return self._now
        if self._chunks or self._waiting or self._streaming or ending is None:
            return self._step_ends_at
        steps = ending - self._steps_started  # after the one under way
        growth = self._decoding * (steps // self.profile.block_size + 1)
        if steps <= 0 or growth > self._pool.available:
            return self._step_ends_at
        context = self._decode_context + self._decoding  # when the step under way is done
        first = self._step_s(0, 0.0, 0, context)
        longer = self.profile.context_s * self._decoding * self._time_factor
        return self._step_ends_at + steps * first + longer * steps * (steps - 1) / 2

    def stats(self, now: float) -> EngineStats:
        """Return what the engine's metrics show at `now`."""
        self._run_until(now)
        return self._telemetry.stats()

    def drain_kv_events(self) -> list[KvEvent]:
        """Return the changes of the prefix cache since the last call, if they are recorded."""
        return self._pool.drain_events()

    @property
    def used_blocks(self) -> int:
        """KV blocks that running requests hold at this moment."""
        return self._pool.used

    # -- steps ------------------------------------------------------------------------------

    def _run_until(self, now: float) -> None:
        while self._step_ends_at is not None and self._step_ends_at <= now:
            self._now = self._step_ends_at
            self._end_step(self._now)
            self._begin_step(self._now)
        self._now = max(self._now, now)

    def _begin_step(self, at: float) -> None:
        profile, decoding = self.profile, self._decoding
        preempted = self._grow_decodes(at)
        decoding = self._decoding
        self._chunks = []
        loads = 0
        if self._prefilling or self._waiting:
            budget = profile.step_budget_tokens - decoding
            for sequence in self._prefilling:
                budget -= self._schedule_chunk(sequence, budget)
            if not preempted:
                loads = self._admit(at, budget)
        self._telemetry.scheduled(self._waiting, len(self._running))
        if not self._chunks and not decoding:
            self._step_ends_at = None
            return
        tokens = 0
        chunk_context = 0.0
        for sequence, chunk in self._chunks:
            tokens += chunk
            chunk_context += chunk * (sequence.computed_tokens + chunk / 2)
        self._steps_started += 1
        duration = self._step_s(tokens, chunk_context, loads, self._decode_context)
        self._telemetry.busy_s += duration
        self._step_ends_at = at + duration

    def _step_s(self, tokens: int, chunk_context: float, loads: int, context: int) -> float:
        return self._time_factor * self.profile.step_s(
            prefill_tokens=tokens,
            decodes=self._decoding,
            decode_context=context,
            chunk_context=chunk_context,
            lora_loads=loads,
        )
