"""Runs the parts of a service until one fails or a signal asks for the end."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

import uvloop

from pointsman_common.errors import PointsmanError
from pointsman_common.structured_log import get_logger

log = get_logger("lifecycle")

YOUNG_OBJECTS = 10_000
"""New objects between two searches for unused cycles. Most of what a request makes is gone by then;
at Python's 700, each search met the open requests again."""

LONGEST_CANCEL_S = 5.0
"""Time that a part may take to end once it is cancelled, before the next one is."""


class Part(Protocol):
    """Something that runs as long as the service."""

    async def run(self) -> None:
        """Run until cancelled. Returning or raising ends the service."""
        ...


@runtime_checkable
class Drainable(Protocol):
    """A part that has work to finish before it may be cancelled."""

    async def drain(self, grace_s: float) -> None: ...


class PartEndedError(PointsmanError):
    """A part of the service ended by itself."""

    reason = "part-ended"


async def run_until_signalled(*parts: Part, drain_s: float) -> None:
    """Run the parts together. On SIGTERM or SIGINT drain them, then cancel them, in their order.

    All drains share `drain_s` seconds; a second signal ends them. What a part still says when it is
    cancelled reaches the parts after it, so the bus stands last. If a part ends by itself before a
    signal, the service stops and the error says why.
    """
    signals: asyncio.Queue[None] = asyncio.Queue()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, signals.put_nowait, None)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_run_part(part, stopping)) for part in parts]
            await signals.get()
            stopping.set()
            log.info("draining", grace_s=drain_s)
            await _drain_all(parts, drain_s, signals)
            for task in tasks:
                task.cancel()
                await asyncio.wait([task], timeout=LONGEST_CANCEL_S)
    finally:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)
    log.info("stopped")


async def _run_part(part: Part, stopping: asyncio.Event) -> None:
    await part.run()
    if not stopping.is_set():
        raise PartEndedError(f"{type(part).__name__} ended")


async def _drain_all(parts: Sequence[Part], drain_s: float, signals: asyncio.Queue[None]) -> None:
    """Drain in order, until all are drained, the time is over, or another signal comes."""
    ends_at = asyncio.get_running_loop().time() + drain_s

    async def drain_each() -> None:
        for part in parts:
            if isinstance(part, Drainable):
                left = max(0.0, ends_at - asyncio.get_running_loop().time())
                await _drain(part, left)

    draining = asyncio.create_task(drain_each())
    hurried = asyncio.create_task(signals.get())
    try:
        await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
        if hurried.done():
            log.warning("drain-cut-short")
    finally:
        draining.cancel()
        hurried.cancel()
        await asyncio.wait((draining, hurried))


async def _drain(part: Drainable, grace_s: float) -> None:
    try:
        async with asyncio.timeout(grace_s + 1.0):
            await part.drain(grace_s)
    except TimeoutError:
        log.warning("drain-incomplete", part=type(part).__name__)
    except Exception:
        # The parts after it still have to drain.
        log.exception("drain-failed", part=type(part).__name__)


def run_service(main: Callable[[], Awaitable[None]]) -> int:
    """Run a service's `main` to its exit code; a failure to start is one line, not a traceback."""

    async def run() -> None:
        await main()

    # What was imported lives as long as the service: it need not be searched each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    try:
        uvloop.run(run())
    except (PointsmanError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except BaseExceptionGroup as group:
        known, unknown = group.split((PointsmanError, OSError))
        if unknown is not None or known is None:
            raise
        for leaf in _leaves(known):
            sys.stderr.write(f"error: {leaf}\n")
        return 1
    return 0


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
