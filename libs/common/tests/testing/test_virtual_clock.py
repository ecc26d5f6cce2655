import asyncio

from pointsman_common.testing.virtual_clock import VirtualClock, settle


async def test_sleepers_wake_each_at_its_own_moment() -> None:
    clock, woken = VirtualClock(monotonic=100.0), list[tuple[str, float]]()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    tasks = [
        asyncio.create_task(sleeper("late", 2.0)),
        asyncio.create_task(sleeper("soon", 1.0)),
        asyncio.create_task(sleeper("never", 9.0)),
    ]
    await clock.advance(3.0)
    assert woken == [("soon", 101.0), ("late", 102.0)]
    assert clock.monotonic() == 103.0
    assert clock.wall() == 1_700_000_003.0
    tasks[2].cancel()
    await clock.advance(10.0)
    assert len(woken) == 2


async def test_who_sleeps_again_wakes_again_within_one_advance() -> None:
    clock, count = VirtualClock(), 0

    async def ticker() -> None:
        nonlocal count
        while True:
            await clock.sleep(1.0)
            count += 1

    task = asyncio.create_task(ticker())
    await clock.advance(5.0)
    assert count == 5
    task.cancel()
    await settle()
    assert task.cancelled()
