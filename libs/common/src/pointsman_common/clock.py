"""Where time comes from. Everything else takes a Clock, so that tests move time by hand."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that only grow: for deadlines and ages."""
        ...

    def wall(self) -> float:
        """Seconds since 1970: to show and to send, never to measure with."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
