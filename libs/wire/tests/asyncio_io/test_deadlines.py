"""One timer for many deadlines; on a loop whose time is moved by hand."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from wire.asyncio_io.deadlines import Deadlines


@dataclass(eq=False)
class Timer:
    at: float
    callback: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Loop:
    now: float = 100.0
    timers: list[Timer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(at, callback))
        return self.timers[-1]

    def advance_to(self, now: float) -> None:
        self.now = now
        for timer in [timer for timer in self.timers if timer.at <= now]:
            self.timers.remove(timer)
            if not timer.is_cancelled:
                timer.callback()

    @property
    def waiting(self) -> list[float]:
        return [timer.at for timer in self.timers if not timer.is_cancelled]


@dataclass(eq=False)
class Call:
    id: int
    closed: bool = False
    expired: bool = False

    def expire(self) -> None:
        self.closed = self.expired = True


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def deadlines(loop: Loop) -> Deadlines:
    return Deadlines(cast(asyncio.AbstractEventLoop, loop))


def test_calls_expire_in_the_order_of_their_deadlines(loop: Loop, deadlines: Deadlines) -> None:
    late, early = Call(1), Call(3)
    deadlines.add(120.0, late)
    deadlines.add(110.0, early)
    assert loop.waiting == [110.0]
    loop.advance_to(110.0)
    assert (early.expired, late.expired) == (True, False)
    assert loop.waiting == [120.0]
    loop.advance_to(120.0)
    assert late.expired


def test_a_call_that_has_ended_does_not_expire(loop: Loop, deadlines: Deadlines) -> None:
    call = Call(1)
    deadlines.add(110.0, call)
    call.closed = True
    loop.advance_to(110.0)
    assert not call.expired


def test_finished_calls_are_swept_out(deadlines: Deadlines) -> None:
    for index in range(10_000):
        call = Call(index)
        deadlines.add(1000.0 + index, call)
        call.closed = True
    assert len(deadlines) <= 128


def test_open_calls_are_kept_by_the_sweep(loop: Loop, deadlines: Deadlines) -> None:
    calls = [Call(index) for index in range(1000)]
    for call in calls:
        deadlines.add(200.0, call)
    loop.advance_to(200.0)
    assert all(call.expired for call in calls)


def test_nothing_expires_after_the_end_of_the_connection(loop: Loop, deadlines: Deadlines) -> None:
    call = Call(1)
    deadlines.add(110.0, call)
    deadlines.close()
    loop.advance_to(111.0)
    assert not call.expired
