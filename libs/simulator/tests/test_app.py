"""The process: says when it is ready, serves, and stops at once."""

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import aiohttp
import pytest

DEADLINE_S = 20.0


@pytest.fixture
async def started() -> AsyncIterator[list[Process]]:
    """Processes to end with the test, however it ends."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def start(started: list[Process], *arguments: str) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pointsman_simulator", *arguments, stdout=PIPE, stderr=PIPE
    )
    started.append(process)
    return process


async def ready_addresses(process: Process) -> list[str]:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)
    said, _, addresses = line.decode().rstrip().partition(" on ")
    assert said == "ready: llama, llama-sql (demo)"
    return addresses.split()


async def test_several_engines_serve_in_one_process_and_a_signal_stops_them_at_once(
    started: list[Process],
) -> None:
    process = await start(started, "--ports", "0,0", "--lora", "llama-sql", "--time-factor", "1000")
    one, other = await ready_addresses(process)
    assert one != other
    async with aiohttp.ClientSession() as session:
        for address in (one, other):
            async with session.get(f"http://{address}/v1/models") as response:
                assert response.headers["x-simulator-endpoint"] == address
        ask = {"prompt": "x", "stream": True}
        async with session.post(f"http://{one}/v1/completions", json=ask) as response:
            assert response.status == 200
            asked_at = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
            assert time.monotonic() - asked_at < 2.0
            with pytest.raises(aiohttp.ClientError):
                await response.read()


async def test_a_taken_port_is_named(started: list[Process]) -> None:
    first = await start(started, "--port", "0", "--lora", "llama-sql")
    [address] = await ready_addresses(first)
    port = address.rpartition(":")[2]
    second = await start(started, "--port", port)
    _, said = await asyncio.wait_for(second.communicate(), DEADLINE_S)
    assert second.returncode == 1
    assert "cannot listen" in said.decode()
    assert port in said.decode()
