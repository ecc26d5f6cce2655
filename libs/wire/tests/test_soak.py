"""Thousands of calls that end in every way there is: nothing is left of them, and memory is flat.

`WIRE_SOAK_CALLS` asks for more than the few thousand of a test run, such as 200000.
"""

import asyncio
import contextlib
import gc
import os
import sys
from random import Random

import pytest

from wire import BidiStream, CallbackStream, Channel, Limits, RpcError, Server
from wire.asyncio_io.channel import WireChannel
from wire.asyncio_io.server import WireServer

CALLS = int(os.environ.get("WIRE_SOAK_CALLS", "8000"))
ROUNDS = 4
MOST_BLOCKS_MORE = 4000
"""Memory that Python holds after the last round and not after the second, in small blocks."""
SIZES = (0, 10, 600, 20_000, 150_000)


class Mirror(CallbackStream):
    def on_message(self, message: bytes) -> None:
        self.send(message)


class Flooder(CallbackStream):
    """Sends more than may wait for its client: the server resets the stream."""

    def on_message(self, message: bytes) -> None:
        for _ in range(3):
            self.send(message + bytes(120_000))


async def mirror(stream: BidiStream) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(message)


async def slow(message: bytes) -> bytes:
    await asyncio.sleep(0.001)
    return message


def fail(_: bytes) -> bytes:
    raise ZeroDivisionError


class Caller:
    """Makes calls of random kinds and gives some up; counts those that were answered or
    reset by the server."""

    def __init__(self, channel: Channel, rng: Random) -> None:
        self._channel, self._rng = channel, rng
        self.answered = self.resets = 0

    async def one(self) -> None:
        rng = self._rng
        kinds = [self._unary, self._unary, self._talk, self._leave, self._hasty, self._flooded]
        make = rng.choice(kinds)
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

    async def _flooded(self, message: bytes) -> None:
        call = self._channel.bidi("/t.S/Flood", timeout_s=30)
        try:
            await call.send(message)
            while await call.receive() is not None:
                pass
        except RpcError as error:
            self.resets += "ENHANCE_YOUR_CALM" in error.message
            raise


def engine_of(owner: Channel | Server) -> WireChannel | WireServer:
    engine: WireChannel | WireServer = owner._engine  # type: ignore[assignment]
    return engine


def check_nothing_is_left(serving: WireServer, calling: WireChannel) -> None:
    for protocol in serving.connections:
        connection = protocol.connection
        assert not connection.streams
        assert connection.buffered_bytes == 0
    assert serving._context is not None
    assert not serving._context.tasks
    assert len(calling.protocols) <= 1
    assert not any(protocol.connection.streams for protocol in calling.protocols)


@pytest.mark.timeout(900)
async def test_nothing_is_left_of_calls_that_ended_in_every_way() -> None:
    rng = Random(1)
    limits = Limits(
        stream_window_bytes=65_535, connection_window_bytes=200_000, max_unsent_bytes=50_000
    )
    server = Server(transport="wire", limits=limits)
    server.unary("/t.S/Echo", lambda message: message)
    server.unary("/t.S/Slow", slow)
    server.unary("/t.S/Fail", fail)
    server.bidi("/t.S/Talk", mirror)
    server.bidi_callbacks("/t.S/Mirror", Mirror)
    server.bidi_callbacks("/t.S/Flood", Flooder)
    [address] = await server.listen("127.0.0.1:0")
    channel = Channel(address, transport="wire", limits=limits)
    serving, calling = engine_of(server), engine_of(channel)
    assert isinstance(serving, WireServer) and isinstance(calling, WireChannel)
    cuts = connections = left = 0
    caller = Caller(channel, rng)
    known: set[object] = set()

    async def work() -> None:
        nonlocal cuts, connections, left
        while left > 0:
            left -= 1
            await caller.one()
            if not known >= serving.connections:
                connections += len(serving.connections - known)
                known.clear()
                known.update(serving.connections)
            if left % 1000 == 500:
                cuts += 1
                for protocol in [*serving.connections]:
                    protocol.abort()  # the network goes away

    blocks = []
    for _ in range(ROUNDS):
        left = CALLS // ROUNDS
        await asyncio.gather(*(work() for _ in range(30)))
        await asyncio.sleep(0.05)
        check_nothing_is_left(serving, calling)
        gc.collect()
        blocks.append(sys.getallocatedblocks())
    assert connections <= cuts + 1  # none was given up for a fault
    assert caller.answered > CALLS / 5
    assert caller.resets > CALLS / 50
    # The first round fills the caches. A leak of a block a call would be half of all calls.
    assert blocks[-1] - blocks[1] < MOST_BLOCKS_MORE, blocks
    await channel.close()
    await server.drain(0)
    assert not serving.connections
