import asyncio
import gc
import os
import signal
from collections.abc import Iterator

import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.lifecycle import PartEndedError, run_service, run_until_signalled
from pointsman_common.testing.virtual_clock import settle


@pytest.fixture(autouse=True)
def usual_collection() -> Iterator[None]:
    """`run_service` changes it for the whole process."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


class Steady:
    """Runs until cancelled, and writes down what happens to it."""

    def __init__(self, name: str, story: list[str]) -> None:
        self.name, self.story = name, story

    async def run(self) -> None:
        self.story.append(f"{self.name} runs")
        try:
            await asyncio.Event().wait()
        finally:
            self.story.append(f"{self.name} ends")


class Draining(Steady):
    grace_s = -1.0

    async def drain(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.story.append(f"{self.name} drains")


class StuckDraining(Steady):
    async def drain(self, grace_s: float) -> None:
        del grace_s
        self.story.append(f"{self.name} drains")
        await asyncio.Event().wait()


class FailingDrain(Steady):
    async def drain(self, grace_s: float) -> None:
        del grace_s
        raise ValueError("no")


class EndsOnDrain:
    """A part whose `run` returns once it is drained."""

    def __init__(self) -> None:
        self._drained = asyncio.Event()

    async def run(self) -> None:
        await self._drained.wait()

    async def drain(self, grace_s: float) -> None:
        del grace_s
        self._drained.set()
        await settle()


class Dying:
    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def run(self) -> None:
        await settle()
        if self._error is not None:
            raise self._error


async def run_and_signal(
    *parts: Steady | EndsOnDrain, drain_s: float = 5.0, signals: int = 1
) -> None:
    running = asyncio.create_task(run_until_signalled(*parts, drain_s=drain_s))
    await settle()
    for _ in range(signals):
        os.kill(os.getpid(), signal.SIGTERM)
        await settle(200)
    async with asyncio.timeout(10):
        await running


async def test_a_signal_drains_then_ends_the_parts_in_their_order() -> None:
    story: list[str] = []
    await run_and_signal(Draining("admin", story), Steady("worker", story), Draining("bus", story))
    assert story == [
        "admin runs",
        "worker runs",
        "bus runs",
        "admin drains",
        "bus drains",
        "admin ends",
        "worker ends",
        "bus ends",
    ]


async def test_what_a_part_says_when_it_ends_still_reaches_the_bus() -> None:
    heard: list[str] = []

    class Bus(Steady):
        open = True

        async def run(self) -> None:
            try:
                await super().run()
            finally:
                self.open = False

    bus = Bus("bus", [])

    class Edge(Steady):
        async def run(self) -> None:
            try:
                await super().run()
            finally:
                await settle()
                heard.append("last words" if bus.open else "too late")

    await run_and_signal(Edge("edge", []), bus)
    assert heard == ["last words"]


async def test_all_drains_share_the_time_given() -> None:
    first, second = StuckDraining("first", []), Draining("second", [])
    loop = asyncio.get_running_loop()
    started = loop.time()
    await run_and_signal(first, second, drain_s=0.05)
    assert second.grace_s == 0.0
    assert loop.time() - started < 2.0


async def test_a_second_signal_ends_the_drain_at_once() -> None:
    story: list[str] = []
    await run_and_signal(StuckDraining("first", story), Draining("second", story), signals=2)
    assert story == ["first runs", "second runs", "first drains", "first ends", "second ends"]


async def test_a_drain_that_fails_does_not_keep_the_others_from_theirs() -> None:
    story: list[str] = []
    await run_and_signal(FailingDrain("first", story), Draining("second", story))
    assert "second drains" in story


async def test_a_part_may_end_by_itself_once_it_is_drained() -> None:
    story: list[str] = []
    await run_and_signal(EndsOnDrain(), Draining("second", story))
    assert story == ["second runs", "second drains", "second ends"]


async def test_a_part_that_fails_ends_the_others_and_says_why() -> None:
    story: list[str] = []
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="port taken")):
        await run_until_signalled(
            Steady("steady", story), Dying(OSError("port taken")), drain_s=5.0
        )
    assert story == ["steady runs", "steady ends"]


async def test_a_part_that_returns_before_any_signal_is_a_failure_that_names_it() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(PartEndedError, match="Dying ended")):
        await run_until_signalled(Steady("steady", []), Dying(None), drain_s=5.0)


async def test_cancelling_from_outside_ends_the_parts_and_passes_through() -> None:
    story: list[str] = []
    running = asyncio.create_task(run_until_signalled(Steady("steady", story), drain_s=5.0))
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert story == ["steady runs", "steady ends"]


async def test_signals_are_left_as_they_were() -> None:
    await run_and_signal(Steady("steady", []))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SettingsError("queue_ttl_s", "must be > 0"), "error: queue_ttl_s: must be > 0\n"),
        (OSError("cannot listen on :80"), "error: cannot listen on :80\n"),
    ],
)
def test_a_failure_to_start_is_one_line_and_a_non_zero_exit(
    error: Exception, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def at_once() -> None:
        raise error

    async def in_a_part() -> None:
        await run_until_signalled(Dying(error), drain_s=1.0)

    for main in (at_once, in_a_part):
        assert run_service(main) == 1
        assert capfd.readouterr().err == line


def test_a_clean_end_is_exit_zero() -> None:
    async def main() -> None:
        await run_and_signal(Steady("steady", []))

    assert run_service(main) == 0


def test_what_was_imported_is_not_searched_for_unused_cycles_any_more() -> None:
    frozen: list[int] = []

    async def main() -> None:
        frozen.append(gc.get_freeze_count())

    run_service(main)
    assert frozen[0] > 10_000


def test_what_nobody_foresaw_is_not_hidden() -> None:
    async def main() -> None:
        await run_until_signalled(Dying(ZeroDivisionError()), drain_s=1.0)

    with pytest.RaisesGroup(ZeroDivisionError):
        run_service(main)
