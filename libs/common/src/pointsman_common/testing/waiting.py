"""Waiting for what a real peer does, with a deadline. Where time is virtual, nothing waits."""

import asyncio
from collections.abc import Callable

from pointsman_common.clock import SystemClock


async def until(check: Callable[[], object], *, timeout_s: float = 10.0) -> None:
    """Return once `check` is true.

    Raises:
        TimeoutError: it was not within `timeout_s` seconds.
    """
    clock = SystemClock()
    async with asyncio.timeout(timeout_s):
        while not check():
            await clock.sleep(0.005)
