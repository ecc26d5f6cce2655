"""Runs an engine in real time: comes back when it has something to say, and passes it on.

Times are those of the clock given, in seconds. The event loop's timers tick in milliseconds, so the
driver may come late by one or two; the engine's own times are exact, and what several steps have
produced meanwhile is handed over at once.
"""

import asyncio
import math
from collections.abc import Callable

from pointsman_simulator.adapters.engine_metrics import EngineMetrics
from pointsman_simulator.adapters.generation import Generation
from pointsman_simulator.adapters.kv_event_publisher import KvEventPublisher, PromptSource
from pointsman_simulator.core.engine import Engine
from pointsman_simulator.core.engine_events import EngineStats, Event, Finished, FirstToken

TICK_S = 0.001


class EngineDriver:
    """Drives one engine; all its methods run in the event loop that it is used from."""

    def __init__(
        self,
        engine: Engine,
        metrics: EngineMetrics,
        now: Callable[[], float],
        kv: KvEventPublisher | None = None,
    ) -> None:
        self._engine, self._metrics, self._now, self._kv = engine, metrics, now, kv
        self._generations: dict[str, Generation] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    def submit(self, generation: Generation) -> None:
        """Start to generate. Raises: ValueError, as `Engine.submit` does."""
        self._engine.submit(generation.request, self._now())
        self._generations[generation.request.request_id] = generation
        self._arm()

    def abort(self, generation: Generation) -> None:
        """Stop generating, if it is still under way."""
        request_id = generation.request.request_id
        self._publish_kv()
        if self._generations.pop(request_id, None) and self._engine.abort(request_id, self._now()):
            self._metrics.count_abort()

    def stats(self) -> EngineStats:
        """Return what the engine's metrics show now."""
        return self._engine.stats(self._now())

    def close(self) -> None:
        """Stop driving; what is under way never ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        due = self._engine.next_event_at()
        if self._timer is not None:
            if due is not None and due >= self._timer_due:
                return  # the earlier call finds out and arms again
            self._timer.cancel()
            self._timer = None
        if due is not None:
            delay_s = due - self._now()
            if delay_s > 0:  # whole ticks: a fraction would be rounded, maybe to a busy loop
                delay_s = math.ceil(delay_s / TICK_S) * TICK_S
            self._timer_due = due
            self._timer = asyncio.get_running_loop().call_later(max(delay_s, 0.0), self._tick)

    def _tick(self) -> None:
        self._timer = None
        events = self._engine.advance(self._now())
        self._publish_kv()  # before those that have finished are forgotten
        for event in events:
            self._deliver(event)
        self._arm()

    def _publish_kv(self) -> None:
        if self._kv is not None:
            self._kv.publish(self._engine.drain_kv_events(), self._source_of)

    def _source_of(self, request_id: str) -> PromptSource | None:
        generation = self._generations.get(request_id)
        return generation.source if generation else None

    def _deliver(self, event: Event) -> None:
        generation = self._generations.get(event.request_id)
        if generation is None:
            return  # aborted since
        generation.feed(event)
        if isinstance(event, FirstToken):
            self._metrics.observe_first_token(event)
        elif isinstance(event, Finished):
            del self._generations[event.request_id]
            self._metrics.observe_finished(event, generation.finish_reason)
