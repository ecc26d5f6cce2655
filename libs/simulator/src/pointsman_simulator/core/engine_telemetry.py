"""What an engine tells of itself, and as of when."""

from pointsman_simulator.core.engine_events import EngineStats
from pointsman_simulator.core.kv_block_pool import KvBlockPool
from pointsman_simulator.core.lora_slots import LoraSlots


class EngineTelemetry:
    """Counters, which the engine raises as it goes, and gauges, frozen when a step ends."""

    def __init__(self, pool: KvBlockPool, loras: LoraSlots) -> None:
        self.prompt_tokens = self.generation_tokens = 0
        self.prefix_query_tokens = self.prefix_hit_tokens = 0
        self.preemptions = self.finished = self.aborted = self.steps = 0
        self.busy_s = 0.0
        self._pool, self._loras = pool, loras
        self._scheduled = (0, 0)  # waiting and deferred, as the last schedule left them
        self._running = self._waiting = self._deferred = self._used_blocks = 0
        self._adapters: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def note_schedule(self, waiting: int, deferred: int) -> None:
        """Keep the queue that a schedule leaves behind; it shows when the step ends."""
        self._scheduled = (waiting, deferred)

    def note_step(self, running: int) -> None:
        """Freeze the gauges: a step has ended and its finished requests are gone."""
        self.steps += 1
        self._running = running
        self._waiting, self._deferred = self._scheduled
        self._used_blocks = self._pool.used
        if self._loras.changed:
            self._adapters = self._loras.adapters()

    def note_skipped(self, steps: int, tokens: int, busy_s: float) -> None:
        """Count steps that only decoded; `busy_s` is the new total."""
        self.steps += steps
        self.generation_tokens += tokens
        self.busy_s = busy_s

    def stats(self) -> EngineStats:
        """Return counters and gauges as metrics show them."""
        running_loras, waiting_loras = self._adapters
        return EngineStats(
            running=self._running,
            waiting=self._waiting,
            waiting_deferred=self._deferred,
            kv_usage=self._used_blocks / self._pool.capacity,
            running_loras=running_loras,
            waiting_loras=waiting_loras,
            total_blocks=self._pool.capacity,
            cached_blocks=self._pool.idle,
            prompt_tokens=self.prompt_tokens,
            generation_tokens=self.generation_tokens,
            prefix_query_tokens=self.prefix_query_tokens,
            prefix_hit_tokens=self.prefix_hit_tokens,
            preemptions=self.preemptions,
            finished=self.finished,
            aborted=self.aborted,
            steps=self.steps,
            busy_s=self.busy_s,
        )
