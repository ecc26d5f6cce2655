"""Thousands of calls that end in every way there is; afterwards nothing is left of them.

`WIRE_SOAK_CALLS` asks for more than the few thousand of a test run, such as 200000.
"""

import asyncio
import contextlib
import os
from random import Random

import pytest

from wire import BidiStream, CallbackStream, Channel, Limits, RpcError, Server
from wire.asyncio_io.channel import WireChannel
from wire.asyncio_io.server import WireServer

CALLS = int(os.environ.get("WIRE_SOAK_CALLS", "3000"))
SIZES = (0, 10, 600, 20_000, 150_000)


class Mirror(CallbackStream):
    def on_message(self, message: bytes) -> None:
        self.send(message)


async def mirror(stream: BidiStream) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(message)


async def slow(message: bytes) -> bytes:
    await asyncio.sleep(0.001)
    return message


def fail(_: bytes) -> bytes:
    raise ZeroDivisionError


class Caller:
    """Makes calls of random kinds and gives some up; counts those that were answered."""

    def __init__(self, channel: Channel, rng: Random) -> None:
        self._channel, self._rng = channel, rng
        self.answered = 0

    async def one(self) -> None:
        rng = self._rng
        make = rng.choice([self._unary, self._unary, self._talk, self._leave, self._hasty])
        with contextlib.suppress(RpcError):
            await make(bytes(rng.choice(SIZES)))

    async def _unary(self, message: bytes) -> None:
        path = self._rng.choice(["/t.S/Echo", "/t.S/Slow", "/t.S/Fail", "/t.S/None"])
        assert await self._channel.unary(path, message, timeout_s=30) == message
        self.answered += 1

    async def _talk(self, message: bytes) -> None:
        call = self._channel.bidi(self._rng.choice(["/t.S/Talk", "/t.S/Mirror"]), timeout_s=30)
        await call.send(message)
        assert await call.receive() == message
        if self._rng.random() < 0.3:
            call.cancel()
            return
        await call.done_writing()
        assert await call.receive() is None
        self.answered += 1

    async def _leave(self, message: bytes) -> None:
        call = asyncio.ensure_future(self._channel.unary("/t.S/Slow", message, timeout_s=30))
        await asyncio.sleep(self._rng.choice([0, 0.0005, 0.002]))
        call.cancel()
        await asyncio.wait([call])

    async def _hasty(self, message: bytes) -> None:
        await self._channel.unary("/t.S/Slow", message, timeout_s=0.0005)


def engine_of(owner: Channel | Server) -> WireChannel | WireServer:
    engine: WireChannel | WireServer = owner._engine  # type: ignore[assignment]
    return engine


@pytest.mark.parametrize("seed", [1])
async def test_nothing_is_left_of_calls_that_ended_in_every_way(seed: int) -> None:
    rng = Random(seed)
    limits = Limits(stream_window_bytes=65_535, connection_window_bytes=200_000)
    server = Server(transport="wire", limits=limits)
    server.unary("/t.S/Echo", lambda message: message)
    server.unary("/t.S/Slow", slow)
    server.unary("/t.S/Fail", fail)
    server.bidi("/t.S/Talk", mirror)
    server.bidi_callbacks("/t.S/Mirror", Mirror)
    [address] = await server.listen("127.0.0.1:0")
    serving = engine_of(server)
    assert isinstance(serving, WireServer)
    channel = Channel(address, transport="wire", limits=limits)
    made: set[int] = set()
    caller, left = Caller(channel, rng), CALLS

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await caller.one()
            made.update(map(id, serving.connections))
            if left % 1000 == 500:
                for protocol in [*serving.connections]:
                    protocol.abort()  # the network goes away

    await asyncio.gather(*(work() for _ in range(30)))
    assert len(made) <= CALLS // 1000 + 1  # none was given up for a fault
    assert caller.answered > CALLS / 5
    await asyncio.sleep(0.05)
    for protocol in serving.connections:
        connection = protocol.connection
        assert not connection.streams
        assert connection.buffered_bytes == 0
    assert serving._context is not None
    assert not serving._context.tasks
    calling = engine_of(channel)
    assert isinstance(calling, WireChannel)
    assert calling._protocol is None or not calling._protocol.connection.streams
    assert len(calling._left) == 0
    await channel.close()
    await server.drain(0)
    assert not serving.connections
