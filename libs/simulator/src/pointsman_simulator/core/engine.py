"""The engine: continuous batching, one step after the other, in the caller's time.

A step is planned whole when the one before it ends, and its length follows from what it holds
(`EngineProfile.step_s`). Between the ends of two steps nothing happens but arrivals and aborts,
which the next plan sees.

Drive it with `submit`, `abort`, `advance`, and `next_event_at` for when to come back. Each takes
`now` in seconds on any clock that does not go back, and first finishes the steps that end by then.
"""

from pointsman_simulator.core.batch_scheduler import BatchScheduler, StepPlan
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

IDLE = StepPlan()


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
        loras = LoraSlots(profile.max_loras)
        self._scheduler = BatchScheduler(profile, self._pool, loras)
        self._decodes = self._scheduler.decodes
        self._telemetry = EngineTelemetry(self._pool, loras)
        self._sequences: dict[str, Sequence] = {}  # all that wait or run
        self._step = IDLE  # the one under way
        self._step_ends_at: float | None = None  # None when idle
        self._last_step_at = 0.0
        self._now = 0.0
        self._events: list[Event] = []

    def submit(self, request: EngineRequest, now: float) -> None:
        """Queue a request.

        Raises:
            ValueError: the id is in use, a count is below 1, there are more hashes than full blocks
                in the prompt, or prompt and output can never fit.
        """
        self._run_until(now)
        self._check(request)
        sequence = Sequence(request, arrived_at=self._now)
        self._sequences[request.request_id] = sequence
        self._scheduler.enqueue(sequence)
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
        self._scheduler.remove(sequence)
        self._telemetry.aborted += 1
        return True

    def advance(self, now: float) -> list[Event]:
        """Finish every step that ends by `now` and return what happened since the last call."""
        self._run_until(now)
        for sequence in self._decodes.streaming.values():
            self._tell_tokens(sequence, self._last_step_at)
        events, self._events = self._events, []
        return events

    def next_event_at(self) -> float | None:
        """Return the earliest time at which `advance` can bring events; None if there is no work.

        While all that runs decodes unstreamed, this leaps to the next end of a request.
        """
        if self._events:
            return self._now
        decodes = self._decodes
        ending = decodes.next_ending()
        if (
            self._step_ends_at is None
            or ending is None
            or self._step.chunks
            or self._scheduler.waiting
            or decodes.streaming
        ):
            return self._step_ends_at
        steps = ending - decodes.steps_started  # after the one under way
        if steps <= 0 or decodes.most_blocks_for(steps) > self._pool.available:
            return self._step_ends_at
        first_s = self._step_s(IDLE, decodes.context + decodes.size)
        longer_s = self._time_factor * self.profile.context_s * decodes.size  # each than the last
        return self._step_ends_at + steps * first_s + longer_s * steps * (steps - 1) / 2

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

    @property
    def load(self) -> tuple[int, int]:
        """Requests running and waiting at this moment."""
        return len(self._scheduler.running), len(self._scheduler.waiting)

    def _check(self, request: EngineRequest) -> None:
        profile = self.profile
        if request.request_id in self._sequences:
            raise ValueError(f"request {request.request_id!r} is already here")
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise ValueError("a request has at least one prompt and one output token")
        if len(request.block_hashes) > request.prompt_tokens // profile.block_size:
            raise ValueError("more block hashes than full blocks in the prompt")
        tokens = request.prompt_tokens + request.output_tokens
        if profile.blocks(tokens) > profile.total_blocks:
            raise ValueError(f"{tokens} tokens can never fit into {profile.kv_tokens}")

    def _run_until(self, now: float) -> None:
        while self._step_ends_at is not None and self._step_ends_at <= now:
            self._step_ends_at = self._leap(self._step_ends_at, now)
            self._now = self._last_step_at = self._step_ends_at
            self._end_step(self._now)
            self._begin_step(self._now)
        self._now = max(self._now, now)

    def _leap(self, step_ends_at: float, now: float) -> float:
        """Pass over steps that only decode and end nobody, and return the end of the one after.

        The arithmetic of `_end_step` and `_begin_step` without their calls, to the last bit.
        """
        decodes, scheduler = self._decodes, self._scheduler
        ending = decodes.next_ending()
        if ending is None or self._step.chunks or scheduler.waiting or scheduler.prefilling:
            return step_ends_at
        size = decodes.size
        possible = ending - decodes.steps_started
        if decodes.most_blocks_for(possible) > self._pool.available:
            return step_ends_at  # there may be a preemption ahead
        context_s = self.profile.context_s
        fixed_s = self.profile.step_s(
            prefill_tokens=0, decodes=size, decode_context=0, chunk_context=0.0
        )
        context, busy_s = decodes.context, self._telemetry.busy_s
        steps = 0
        while steps < possible:
            context += size
            duration_s = self._time_factor * (fixed_s + context_s * context)
            if step_ends_at + duration_s > now:
                break
            step_ends_at += duration_s
            busy_s += duration_s
            steps += 1
        if steps:
            self._pool.allocate(decodes.skip_steps(steps))
            self._telemetry.note_skipped(steps, steps * size, busy_s)
        return step_ends_at

    def _begin_step(self, at: float) -> None:
        telemetry = self._telemetry
        self._step = step = self._scheduler.plan_step(at)
        for sequence in step.preempted:
            if sequence.request.streamed:
                self._tell_tokens(sequence, at)
            self._events.append(Preempted(sequence.request.request_id, at))
        telemetry.preemptions += len(step.preempted)
        telemetry.prefix_query_tokens += step.prefix_query_tokens
        telemetry.prefix_hit_tokens += step.prefix_hit_tokens
        telemetry.note_schedule(len(self._scheduler.waiting), step.deferred)
        if not step.chunks and not self._decodes.size:
            self._step_ends_at = None
            return
        self._decodes.start_step()
        duration_s = self._step_s(step, self._decodes.context)
        telemetry.busy_s += duration_s
        self._step_ends_at = at + duration_s

    def _step_s(self, step: StepPlan, decode_context: int) -> float:
        tokens = 0
        chunk_context = 0.0
        for sequence, chunk in step.chunks:
            tokens += chunk
            chunk_context += chunk * (sequence.computed_tokens + chunk / 2)
        return self._time_factor * self.profile.step_s(
            prefill_tokens=tokens,
            decodes=self._decodes.size,
            decode_context=decode_context,
            chunk_context=chunk_context,
            lora_loads=step.lora_loads,
        )

    def _end_step(self, at: float) -> None:
        decodes = self._decodes
        decodes.end_step()
        self._telemetry.generation_tokens += decodes.size
        for sequence, chunk in self._step.chunks:
            sequence.computed_tokens += chunk
            if sequence.phase is Phase.PREFILLING and (
                sequence.computed_tokens == sequence.prefill_tokens
            ):
                self._end_prefill(sequence, at)
        while ended := decodes.pop_ended():
            self._finish(ended, at)
        self._telemetry.note_step(len(self._scheduler.running))

    def _end_prefill(self, sequence: Sequence, at: float) -> None:
        """The prefill brings a token: the first, or after a preemption the next."""
        request = sequence.request
        sequence.generated += 1
        self._telemetry.generation_tokens += 1
        if not sequence.reported:
            sequence.reported = 1
            sequence.first_token_at = at
            self._telemetry.prompt_tokens += request.prompt_tokens
            self._events.append(
                FirstToken(request.request_id, at, sequence.arrived_at, sequence.cached_tokens)
            )
        # If it was the last token as well, this same step finds the sequence among the ended.
        self._scheduler.start_decoding(sequence)

    def _finish(self, sequence: Sequence, at: float) -> None:
        request = sequence.request
        self._scheduler.remove(sequence)
        del self._sequences[request.request_id]
        self._telemetry.finished += 1
        if request.streamed:
            self._tell_tokens(sequence, at)
        self._events.append(
            Finished(
                request_id=request.request_id,
                at=at,
                arrived_at=sequence.arrived_at,
                admitted_at=sequence.admitted_at,
                first_token_at=sequence.first_token_at,
                prompt_tokens=request.prompt_tokens,
                cached_tokens=sequence.cached_tokens,
                output_tokens=sequence.generated,
                preemptions=sequence.preemptions,
            )
        )

    def _tell_tokens(self, sequence: Sequence, at: float) -> None:
        produced = sequence.generated_after(self._decodes.steps_done)
        if produced > sequence.reported:
            count, sequence.reported = produced - sequence.reported, produced
            self._events.append(Tokens(sequence.request.request_id, at, count))
