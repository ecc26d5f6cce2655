"""Runs the parts of a service until one fails or a signal asks for the end."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

import uvloop

from pointsman_common.errors import PointsmanError
from pointsman_common.structured_log import get_logger

log = get_logger("lifecycle")


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
    """Run the parts together. On SIGTERM or SIGINT drain them, the first ones first, then cancel.

    If one dies the service stops and the error says why.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_run_part(part)) for part in parts]
            await stop.wait()
            log.info("draining", grace_s=drain_s)
            for part in parts:
                if isinstance(part, Drainable):
                    await _drain(part, drain_s)
            for task in tasks:
                task.cancel()
    finally:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)
    log.info("stopped")


async def _run_part(part: Part) -> None:
    await part.run()
    raise PartEndedError(f"{type(part).__name__} ended")


async def _drain(part: Drainable, grace_s: float) -> None:
    try:
        async with asyncio.timeout(grace_s + 1.0):
            await part.drain(grace_s)
    except TimeoutError:
        log.warning("drain-incomplete", part=type(part).__name__)


def run_service(main: Callable[[], Awaitable[None]]) -> int:
    """Run a service's `main` to its exit code; a failure to start is one line, not a traceback."""

    async def run() -> None:
        await main()

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
