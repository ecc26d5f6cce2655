"""Runs the services' coroutines in virtual time: a loop without a clock, files or threads.

Services sleep on a Clock and wait for a Bus; both are virtual here, so a loop that only knows what
is ready to run is enough, and runs the same way every time.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, cast

from pointsman_replay.core.timeline import Timeline

EPOCH_S = 1_700_000_000.0
"""Wall clock at the start of a run."""


class VirtualLoop:
    """Call `run_ready` after whatever may have woken a coroutine.

    As much of an event loop as tasks, futures and `asyncio.gather` ask for.
    """

    def __init__(self) -> None:
        self._ready: deque[tuple[Context, Callable[..., object], tuple[Any, ...]]] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._as_loop = cast(asyncio.AbstractEventLoop, self)

    def run_ready(self) -> None:
        """Run all that can run, and what becomes ready by that."""
        if not self._ready:
            return
        asyncio._set_running_loop(self._as_loop)  # made for implementations of loops
        try:
            while self._ready:
                context, call, arguments = self._ready.popleft()
                context.run(call, *arguments)
        finally:
            asyncio._set_running_loop(None)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine until it waits; it goes on in `run_ready`, until `shut_down`."""
        self._tasks.append(self.create_task(coroutine))
        self.run_ready()

    def shut_down(self) -> None:
        """Cancel what was started.

        Raises:
            Exception: what one of them failed with.
        """
        for task in self._tasks:
            task.cancel()
        self.run_ready()
        for task in self._tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        context = context or copy_context()
        self._ready.append((context, callback, args))
        return asyncio.Handle(callback, args, self._as_loop, context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._as_loop)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self._as_loop, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise context.get("exception") or RuntimeError(context["message"])


class TimelineClock:
    """The timeline as a Clock."""

    def __init__(self, timeline: Timeline, loop: VirtualLoop) -> None:
        self._timeline, self._loop = timeline, loop

    def monotonic(self) -> float:
        return self._timeline.now

    def wall(self) -> float:
        return EPOCH_S + self._timeline.now

    async def sleep(self, seconds: float) -> None:
        woken = self._loop.create_future()
        self._timeline.at(self._timeline.now + seconds, self._wake, woken)
        await woken

    def _wake(self, woken: asyncio.Future[None]) -> None:
        if not woken.done():
            woken.set_result(None)
            self._loop.run_ready()
