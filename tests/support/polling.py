"""Waiting for what must come, with a deadline, and for nothing else."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(what: str, check: Callable[[], T], *, timeout_s: float = 20.0) -> T:
    """Call `check` until it is true; exceptions count as not yet.

    Raises:
        AssertionError: naming `what` and the last failure, after `timeout_s` seconds.
    """
    ends_at, last = time.monotonic() + timeout_s, "it was never true"
    while time.monotonic() < ends_at:
        try:
            value = check()
        except Exception as error:
            last = repr(error)
        else:
            if value:
                return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {timeout_s} s: {last}")


async def await_until(
    what: str, check: Callable[[], Awaitable[T]], *, timeout_s: float = 20.0
) -> T:
    """As `wait_until`, for a coroutine function."""
    ends_at, last = time.monotonic() + timeout_s, "it was never true"
    while time.monotonic() < ends_at:
        try:
            value = await check()
        except Exception as error:
            last = repr(error)
        else:
            if value:
                return value
        await asyncio.sleep(0.02)
    raise AssertionError(f"{what} did not come within {timeout_s} s: {last}")
