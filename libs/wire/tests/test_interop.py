"""The wire engine against grpcio, as its client and as its server, and against itself."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from wire import BidiStream, Channel, RpcError, RpcStatus, Server, Transport

LARGE = os.urandom(3 << 20)
PAIRS: list[tuple[Transport, Transport]] = [
    ("wire", "wire"),
    ("wire", "grpcio"),
    ("grpcio", "wire"),
]


async def bidi_echo(stream: BidiStream) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(message)


def refuse(_: bytes) -> bytes:
    raise RpcError(RpcStatus.FAILED_PRECONDITION, "pré %cond\n")


async def hang(_: bytes) -> bytes:
    await asyncio.Event().wait()
    return b""


@pytest.fixture(params=PAIRS, ids=[" -> ".join(pair) for pair in PAIRS])
async def channel(request: pytest.FixtureRequest) -> AsyncIterator[Channel]:
    """A channel of one engine to a server of another."""
    client, serving = request.param
    server = Server(transport=serving)
    server.unary("/t.S/Echo", lambda message: message)
    server.unary("/t.S/Refuse", refuse)
    server.unary("/t.S/Hang", hang)
    server.bidi("/t.S/Talk", bidi_echo)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport=client) as opened:
        yield opened
    await server.drain(0)


@pytest.mark.parametrize("message", [b"", b"x", b"y" * 16_379, b"y" * 16_380, LARGE], ids=len)
async def test_messages_of_any_size_cross(channel: Channel, message: bytes) -> None:
    assert await channel.unary("/t.S/Echo", message, timeout_s=20) == message


async def test_many_calls_at_once(channel: Channel) -> None:
    messages = [str(index).encode() for index in range(400)]
    # First the connection: grpcio gives it 50 ms, in which this loop makes the 400 calls.
    await channel.unary("/t.S/Echo", b"", timeout_s=20)
    calls = (channel.unary("/t.S/Echo", message, timeout_s=20) for message in messages)
    assert await asyncio.gather(*calls) == messages


async def test_a_status_and_its_message_cross_with_any_characters(channel: Channel) -> None:
    with pytest.raises(RpcError) as caught:
        await channel.unary("/t.S/Refuse", b"", timeout_s=5)
    assert caught.value.status is RpcStatus.FAILED_PRECONDITION
    assert caught.value.message == "pré %cond\n"


async def test_a_deadline_holds(channel: Channel) -> None:
    with pytest.raises(RpcError) as caught:
        await channel.unary("/t.S/Hang", b"", timeout_s=0.05)
    assert caught.value.status is RpcStatus.DEADLINE_EXCEEDED


async def test_a_bidirectional_call_carries_all_sizes_in_order(channel: Channel) -> None:
    call = channel.bidi("/t.S/Talk", timeout_s=20)
    for message in [b"a", b"", b"c" * 100_000, LARGE, b"e"]:
        await call.send(message)
        assert await call.receive() == message
    await call.done_writing()
    assert await call.receive() is None


async def test_a_reader_that_is_slow_gets_all(channel: Channel) -> None:
    call = channel.bidi("/t.S/Talk", timeout_s=20)
    messages = [bytes([index]) * 50_000 for index in range(100)]

    async def send() -> None:
        for message in messages:
            await call.send(message)
        await call.done_writing()

    sending = asyncio.create_task(send())
    received = []
    while (message := await call.receive()) is not None:
        received.append(message)
        await asyncio.sleep(0)
    await sending
    assert received == messages


# What grpcio offers and our channel does not


@pytest.fixture
async def grpc_channel() -> AsyncIterator[Callable[..., grpc.aio.Channel]]:
    server = Server(transport="wire")
    server.unary("/t.S/Echo", lambda message: message)
    [address] = await server.listen("127.0.0.1:0")
    opened: list[grpc.aio.Channel] = []

    def open_channel(**options: Any) -> grpc.aio.Channel:
        opened.append(grpc.aio.insecure_channel(address, **options))
        return opened[-1]

    yield open_channel
    for channel in opened:
        await channel.close()
    await server.drain(0)


async def test_binary_metadata_does_no_harm(
    grpc_channel: Callable[..., grpc.aio.Channel],
) -> None:
    metadata = (("x-a", "b"), ("x-b-bin", b"\0\1"), ("traceparent", "00-" + "a" * 32))
    call: Awaitable[bytes] = grpc_channel().unary_unary("/t.S/Echo")(b"m", metadata=metadata)
    assert await call == b"m"


async def test_a_compressed_message_is_refused_as_unimplemented(
    grpc_channel: Callable[..., grpc.aio.Channel],
) -> None:
    method = grpc_channel(compression=grpc.Compression.Gzip).unary_unary("/t.S/Echo")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(b"a" * 5000)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
