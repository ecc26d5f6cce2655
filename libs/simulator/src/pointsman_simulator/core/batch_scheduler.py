"""What is in the next step: who keeps running, who joins, who has to go.

The order is vLLM's. Every decoding sequence gets a token; for want of KV blocks the youngest
running request is preempted. Prompts under way get chunks of what is left of the budget. Newcomers
are admitted first come, first served, while budget, sequences and blocks last, and not in a step
that preempted; only a request whose adapter finds no slot is passed over. Admission reserves the
blocks of the whole prompt.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from pointsman_simulator.core.decode_batch import DecodeBatch
from pointsman_simulator.core.engine_profile import EngineProfile
from pointsman_simulator.core.kv_block_pool import KvBlockPool
from pointsman_simulator.core.lora_slots import LoraSlots
from pointsman_simulator.core.sequence import Phase, Sequence


@dataclass(slots=True)
class StepPlan:
    """The prefill of one step, and what its planning did; the decodes are the whole batch."""

    chunks: list[tuple[Sequence, int]] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    lora_loads: int = 0
    deferred: int = 0  # waiting requests passed over for want of an adapter slot
    prefix_query_tokens: int = 0  # of the admitted requests
    prefix_hit_tokens: int = 0


class BatchScheduler:
    """The queue, the running requests, and the blocks and adapter slots that they hold."""

    def __init__(self, profile: EngineProfile, pool: KvBlockPool, loras: LoraSlots) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: dict[str, Sequence] = {}  # in the order of admission
        self.prefilling: list[Sequence] = []  # of those, in the same order
        self.decodes = DecodeBatch(profile.block_size)
        self._profile, self._pool, self._loras = profile, pool, loras
        self._reserve_blocks = math.ceil(profile.total_blocks * profile.admission_reserve)
        self._refused: tuple[Sequence, int] | None = None  # did not fit; the pool's gains then

    def enqueue(self, sequence: Sequence) -> None:
        """Put a new request at the end of the queue."""
        self.waiting.append(sequence)
        if sequence.request.lora:
            self._loras.wait(sequence.request.lora)

    def remove(self, sequence: Sequence) -> None:
        """Take a request out for good, wherever it is, and release what it holds."""
        if sequence.phase is not Phase.WAITING:
            self._stop(sequence, Phase.GONE)
            return
        self.waiting.remove(sequence)
        sequence.phase = Phase.GONE
        if sequence.request.lora:
            self._loras.leave_queue(sequence.request.lora)

    def start_decoding(self, sequence: Sequence) -> None:
        """Move a request whose prefill is done to the decodes."""
        self.prefilling.remove(sequence)
        self.decodes.join(sequence)

    def plan_step(self, at: float) -> StepPlan:
        """Decide what the step beginning at `at` holds, and take the blocks for it."""
        plan = StepPlan()
        self._grow_decodes(plan)
        if self.prefilling or self.waiting:
            budget = self._profile.step_budget_tokens - self.decodes.size
            for sequence in self.prefilling:
                budget -= self._schedule_chunk(plan, sequence, budget)
            if not plan.preempted:
                self._admit(plan, at, budget)
        return plan

    def _grow_decodes(self, plan: StepPlan) -> None:
        decodes, pool = self.decodes, self._pool
        while (needed := decodes.blocks_for_next_step()) > pool.available:
            youngest = self.running[next(reversed(self.running))]
            self._preempt(youngest)
            plan.preempted.append(youngest)
        if needed:
            pool.allocate(needed)

    def _preempt(self, sequence: Sequence) -> None:
        self._stop(sequence, Phase.WAITING)
        sequence.preemptions += 1
        self.waiting.appendleft(sequence)
        if sequence.request.lora:
            self._loras.wait(sequence.request.lora)

    def _schedule_chunk(self, plan: StepPlan, sequence: Sequence, budget: int) -> int:
        """Put as much of a prompt into the step as fits; its full blocks can be hit from now on."""
        request = sequence.request
        chunk = min(sequence.prefill_tokens - sequence.computed_tokens, budget)
        if chunk <= 0:
            return 0
        plan.chunks.append((sequence, chunk))
        full_blocks = (sequence.computed_tokens + chunk) // self._profile.block_size
        named = min(full_blocks, len(request.block_hashes))
        if named > sequence.shared_blocks:
            start, sequence.shared_blocks = sequence.shared_blocks, named
            self._pool.publish(request.request_id, request.block_hashes, start, named)
        return chunk

    def _admit(self, plan: StepPlan, at: float, budget: int) -> None:
        waiting, loras = self.waiting, self._loras
        passed_over: list[Sequence] = []
        while waiting and budget > 0 and len(self.running) < self._profile.max_sequences:
            sequence = waiting[0]
            lora = sequence.request.lora
            if lora and not loras.has_room(lora):
                passed_over.append(waiting.popleft())
                continue
            if not self._take_blocks(sequence):
                break
            waiting.popleft()
            if lora:
                loras.leave_queue(lora)
                plan.lora_loads += loras.start(lora)
            if not sequence.preemptions:
                sequence.admitted_at = at
                sequence.cached_tokens = sequence.computed_tokens
            plan.prefix_query_tokens += sequence.prefill_tokens
            plan.prefix_hit_tokens += sequence.computed_tokens
            sequence.phase = Phase.PREFILLING
            self.running[sequence.request.request_id] = sequence
            self.prefilling.append(sequence)
            budget -= self._schedule_chunk(plan, sequence, budget)
        waiting.extendleft(reversed(passed_over))
        plan.deferred = len(passed_over)

    def _take_blocks(self, sequence: Sequence) -> bool:
        """Reserve the blocks of the whole prompt, reusing what is cached, if there is room."""
        pool, request = self._pool, sequence.request
        if self._refused == (sequence, pool.gains):
            return False  # nothing has changed for the better
        sequence.prefill_tokens = request.prompt_tokens + sequence.generated
        # The last token is always computed, since its result is the next token.
        limit = (sequence.prefill_tokens - 1) // self._profile.block_size
        hits, idle_hits = pool.match(request.block_hashes, limit)
        missing = self._profile.blocks(sequence.prefill_tokens) - hits
        reserve = self._reserve_blocks if self.running else 0
        if missing + idle_hits + reserve > pool.available:
            self._refused = (sequence, pool.gains)
            return False
        pool.acquire(request.block_hashes, hits)
        pool.allocate(missing)
        sequence.shared_blocks = hits
        sequence.computed_tokens = hits * self._profile.block_size
        return True

    def _stop(self, sequence: Sequence, phase: Phase) -> None:
        request = sequence.request
        held = self._profile.blocks(sequence.held_tokens(self.decodes.steps_started))
        private = held - sequence.shared_blocks
        self._pool.release(request.block_hashes, sequence.shared_blocks, private)
        if sequence.phase is Phase.DECODING:
            self.decodes.leave(sequence, phase)
        else:
            self.prefilling.remove(sequence)
            sequence.phase = phase
        del self.running[request.request_id]
        if request.lora:
            self._loras.stop(request.lora)
