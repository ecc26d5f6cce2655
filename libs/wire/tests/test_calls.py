import asyncio
from pathlib import Path

import pytest

from wire import BidiStream, Channel, RpcError, RpcStatus, Server, Transport


async def test_a_plain_function_and_a_coroutine_both_answer_unary_calls(
    transport: Transport,
) -> None:
    async def slow(message: bytes) -> bytes:
        await asyncio.sleep(0)
        return message[::-1]

    server = Server(transport=transport)
    server.unary("/t.S/Plain", lambda message: message * 2)
    server.unary("/t.S/Slow", slow)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport=transport) as channel:
        assert await channel.unary("/t.S/Plain", b"ab", timeout_s=5) == b"abab"
        assert await channel.unary("/t.S/Slow", b"ab", timeout_s=5) == b"ba"
    await server.drain(0)


async def test_a_unix_socket_carries_calls(tmp_path: Path, transport: Transport) -> None:
    server = Server(transport=transport)
    server.unary("/t.S/Echo", lambda message: message)
    [address] = await server.listen(f"unix://{tmp_path}/s.sock")
    async with Channel(address, transport=transport) as channel:
        assert await channel.unary("/t.S/Echo", b"x", timeout_s=5) == b"x"
    await server.drain(0)


async def test_statuses_reach_the_caller(transport: Transport) -> None:
    errors: list[str] = []

    def refuse(_: bytes) -> bytes:
        raise RpcError(RpcStatus.FAILED_PRECONDITION, "not today")

    def crash(_: bytes) -> bytes:
        raise ZeroDivisionError

    def note(path: str, error: Exception) -> None:
        errors.append(f"{path} {error!r}")

    server = Server(transport=transport, on_error=note)
    server.unary("/t.S/Refuse", refuse)
    server.unary("/t.S/Crash", crash)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport=transport) as channel:
        for path, status in [
            ("/t.S/Refuse", RpcStatus.FAILED_PRECONDITION),
            ("/t.S/Crash", RpcStatus.UNKNOWN),
            ("/t.S/Absent", RpcStatus.UNIMPLEMENTED),
        ]:
            with pytest.raises(RpcError) as caught:
                await channel.unary(path, b"", timeout_s=5)
            assert caught.value.status is status
    assert errors == ["/t.S/Crash ZeroDivisionError()"]
    await server.drain(0)


async def test_a_deadline_ends_a_call_and_cancels_its_handler(transport: Transport) -> None:
    cancelled = asyncio.Event()

    async def hang(_: bytes) -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    server = Server(transport=transport)
    server.unary("/t.S/Hang", hang)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport=transport) as channel:
        with pytest.raises(RpcError) as caught:
            await channel.unary("/t.S/Hang", b"", timeout_s=0.05)
        assert caught.value.status is RpcStatus.DEADLINE_EXCEEDED
        await asyncio.wait_for(cancelled.wait(), 5)
    await server.drain(0)


async def test_a_bidirectional_call_carries_messages_both_ways_until_the_handler_returns(
    transport: Transport,
) -> None:
    async def echo(stream: BidiStream) -> None:
        while (message := await stream.receive()) is not None:
            await stream.send(message.upper())

    server = Server(transport=transport)
    server.bidi("/t.S/Talk", echo)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport=transport) as channel:
        call = channel.bidi("/t.S/Talk", timeout_s=5)
        await call.send(b"a")
        assert await call.receive() == b"A"
        await call.send(b"b")
        await call.done_writing()
        assert await call.receive() == b"B"
        assert await call.receive() is None
    await server.drain(0)


async def test_a_handler_sees_what_the_client_sent_ahead(transport: Transport) -> None:
    async def tell(stream: BidiStream) -> None:
        await stream.send(stream.metadata["x-pool"].encode())

    server = Server(transport=transport)
    server.bidi("/t.S/Tell", tell)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport=transport) as channel:
        call = channel.bidi("/t.S/Tell", timeout_s=5, metadata={"x-pool": "default/llama"})
        assert await call.receive() == b"default/llama"
    await server.drain(0)


async def test_nobody_listening_is_unavailable_and_a_taken_port_is_an_os_error(
    transport: Transport,
) -> None:
    server = Server(transport=transport)
    [address] = await server.listen("127.0.0.1:0")
    with pytest.raises(OSError, match="cannot listen"):
        await Server(transport=transport).listen(address)
    await server.drain(0)
    async with Channel(address, transport=transport) as channel:
        with pytest.raises(RpcError) as caught:
            await channel.unary("/t.S/Echo", b"", timeout_s=5)
        assert caught.value.status is RpcStatus.UNAVAILABLE
