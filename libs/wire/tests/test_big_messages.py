"""40 calls at once with 4 MB each, both ways, through windows that are far smaller."""

import asyncio
from typing import Any

import grpc.aio
import pytest

from wire import BidiStream, Channel, Limits, Server, Transport
from wire.asyncio_io.server import WireServer

CALLS = 40
LARGE = (4 << 20) - 100
PAIRS: list[tuple[Transport, Transport]] = [
    ("wire", "wire"),
    ("wire", "grpcio"),
    ("grpcio", "wire"),
]
OUTPUT_BYTES = 8 << 20
"""May wait for the sockets, over what the queues of the streams hold."""


def tiny(window: int) -> Limits:
    """The window of the connection cannot be smaller than 65 535 bytes (RFC 9113, 6.9.2)."""
    return Limits(stream_window_bytes=window, connection_window_bytes=65_535)


class Watch:
    """What a server holds of requests and of answers, looked at every few milliseconds."""

    def __init__(self, server: Server) -> None:
        self._engine = server._engine
        self.most_held = self.most_queued = self.most_waiting = 0

    async def __aenter__(self) -> "Watch":
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _look(self) -> None:
        while isinstance(self._engine, WireServer):
            for protocol in self._engine.connections:
                connection = protocol.connection
                queued = sum(len(stream.queue or b"") for stream in connection.streams.values())
                waiting = sum(map(len, connection.output))
                self.most_held = max(self.most_held, connection.buffered_bytes)
                self.most_queued = max(self.most_queued, queued)
                self.most_waiting = max(self.most_waiting, waiting)
            await asyncio.sleep(0.005)


def check_nothing_is_left(server: Server) -> None:
    engine = server._engine
    if isinstance(engine, WireServer):
        for protocol in engine.connections:
            assert not protocol.connection.streams
            assert protocol.connection.buffered_bytes == 0


async def echo(stream: BidiStream) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(message)


async def serving(transport: Transport, limits: Limits) -> tuple[Server, str]:
    server = Server(transport=transport, limits=limits)
    server.unary("/t.S/Echo", lambda message: message)
    server.bidi("/t.S/Talk", echo)
    [address] = await server.listen("127.0.0.1:0")
    return server, address


@pytest.mark.parametrize(("client", "server_side"), PAIRS, ids=[" -> ".join(p) for p in PAIRS])
async def test_40_messages_of_4_mb_cross_windows_of_16_kib_both_ways(
    client: Transport, server_side: Transport
) -> None:
    limits = tiny(16 << 10)
    server, address = await serving(server_side, limits)
    bodies = [bytes([index]) * LARGE for index in range(CALLS)]
    async with Channel(address, transport=client, limits=limits) as channel, Watch(server) as watch:
        calls = (channel.unary("/t.S/Echo", body, timeout_s=100) for body in bodies)
        answers = await asyncio.gather(*calls)
        assert answers == bodies
        check_nothing_is_left(server)
    assert watch.most_held <= CALLS * (LARGE + (16 << 10))
    assert watch.most_queued <= CALLS * (LARGE + 5)
    assert watch.most_waiting <= OUTPUT_BYTES
    await server.drain(0)


@pytest.mark.parametrize("window", [1 << 10, 4 << 10])
@pytest.mark.parametrize(("client", "server_side"), PAIRS, ids=[" -> ".join(p) for p in PAIRS])
async def test_40_conversations_cross_windows_smaller_than_a_frame(
    client: Transport, server_side: Transport, window: int
) -> None:
    server, address = await serving(server_side, tiny(window))
    messages = [bytes([index]) * 9_000 for index in range(4)]

    async def talk(channel: Channel) -> list[bytes]:
        call = channel.bidi("/t.S/Talk", timeout_s=100)
        received = []
        for message in messages:
            await call.send(message)
            received.append(await call.receive() or b"")
        await call.done_writing()
        assert await call.receive() is None
        return received

    async with Channel(address, transport=client, limits=tiny(window)) as channel:
        async with Watch(server) as watch:
            for received in await asyncio.gather(*(talk(channel) for _ in range(CALLS))):
                assert received == messages
        check_nothing_is_left(server)
    assert watch.most_held <= CALLS * (9_005 + window)
    await server.drain(0)


async def test_a_grpcio_peer_with_the_smallest_windows_of_its_own_gets_all() -> None:
    options: list[tuple[str, Any]] = [
        ("grpc.http2.lookahead_bytes", 1024),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_receive_message_length", -1),
    ]
    server, address = await serving("wire", tiny(1 << 10))
    bodies = [bytes([index]) * 500_000 for index in range(8)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        method = channel.unary_unary("/t.S/Echo")
        answers = await asyncio.gather(*(method(body, timeout=100) for body in bodies))
    assert answers == bodies
    await server.drain(0)
