"""How calls end other than by an answer: cancelled, too large, drained, cut off."""

import asyncio
from collections.abc import Callable

import pytest

from wire import BidiStream, Channel, RpcError, RpcStatus, Server, Transport


class Held:
    """A unary handler that answers when it is released."""

    def __init__(self) -> None:
        self.reached, self.release = asyncio.Event(), asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, message: bytes) -> bytes:
        self.reached.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return message


async def serving(
    transport: Transport, **handlers: Callable[[bytes], bytes] | Held
) -> tuple[Server, str]:
    server = Server(transport=transport)
    for name, handler in handlers.items():
        server.unary(f"/t.S/{name}", handler)
    [address] = await server.listen("127.0.0.1:0")
    return server, address


async def test_cancelling_a_call_cancels_its_handler_and_not_the_others(
    transport: Transport,
) -> None:
    gone, stays = Held(), Held()
    server, address = await serving(transport, Gone=gone, Stays=stays)
    async with Channel(address, transport=transport) as channel:
        leaving = asyncio.create_task(channel.unary("/t.S/Gone", b"a", timeout_s=30))
        staying = asyncio.create_task(channel.unary("/t.S/Stays", b"b", timeout_s=30))
        await asyncio.gather(gone.reached.wait(), stays.reached.wait())
        leaving.cancel()
        await asyncio.wait_for(gone.cancelled.wait(), 5)
        stays.release.set()
        assert await staying == b"b"
    await server.drain(0)


async def test_draining_lets_open_calls_end_and_refuses_new_ones(transport: Transport) -> None:
    held = Held()
    server, address = await serving(transport, Hold=held)
    async with (
        Channel(address, transport=transport) as channel,
        Channel(address, transport=transport) as late,
    ):
        call = asyncio.create_task(channel.unary("/t.S/Hold", b"whole", timeout_s=30))
        await held.reached.wait()
        drain = asyncio.create_task(server.drain(30))
        await asyncio.sleep(0)
        with pytest.raises(RpcError) as caught:
            await late.unary("/t.S/Hold", b"", timeout_s=5)
        assert caught.value.status is RpcStatus.UNAVAILABLE
        held.release.set()
        assert await call == b"whole"
        await drain


async def test_a_call_that_outlasts_the_drain_is_ended_and_may_be_made_again_elsewhere(
    transport: Transport,
) -> None:
    held = Held()
    server, address = await serving(transport, Hold=held)
    async with Channel(address, transport=transport) as channel:
        call = asyncio.create_task(channel.unary("/t.S/Hold", b"", timeout_s=30))
        await held.reached.wait()
        await server.drain(0)
        with pytest.raises(RpcError) as caught:
            await call
        assert caught.value.status in (RpcStatus.UNAVAILABLE, RpcStatus.CANCELLED)
        await asyncio.wait_for(held.cancelled.wait(), 5)


async def test_a_channel_finds_a_server_that_is_back_at_its_address(transport: Transport) -> None:
    server, address = await serving(transport, Echo=lambda message: message)
    async with Channel(address, transport=transport) as channel:
        assert await channel.unary("/t.S/Echo", b"1", timeout_s=5) == b"1"
        await server.drain(0)
        again = Server(transport=transport)
        again.unary("/t.S/Echo", lambda message: message * 2)
        await again.listen(address)
        async with asyncio.timeout(10):
            while True:
                try:
                    answer = await channel.unary("/t.S/Echo", b"2", timeout_s=5)
                    break
                except RpcError as error:
                    assert error.status is RpcStatus.UNAVAILABLE
        assert answer == b"22"
        await again.drain(0)


async def test_large_messages_cross_up_to_the_limit_of_both_ends(transport: Transport) -> None:
    server = Server(transport=transport, max_message_bytes=8 << 20)
    server.unary("/t.S/Echo", lambda message: message)
    [address] = await server.listen("127.0.0.1:0")
    large = bytes(range(256)) * (7 << 12)
    async with Channel(address, transport=transport, max_message_bytes=8 << 20) as channel:
        assert await channel.unary("/t.S/Echo", large, timeout_s=10) == large
        with pytest.raises(RpcError) as caught:
            await channel.unary("/t.S/Echo", bytes(9 << 20), timeout_s=10)
        assert caught.value.status is RpcStatus.RESOURCE_EXHAUSTED
    async with Channel(address, transport=transport) as narrow:
        with pytest.raises(RpcError) as caught:
            await narrow.unary("/t.S/Echo", large, timeout_s=10)
        assert caught.value.status is RpcStatus.RESOURCE_EXHAUSTED
    await server.drain(0)


async def test_many_large_calls_at_once_do_not_block_each_other(transport: Transport) -> None:
    server, address = await serving(transport, Echo=lambda message: message)
    bodies = [bytes([index]) * 400_000 for index in range(40)]
    async with Channel(address, transport=transport) as channel:
        answers = await asyncio.gather(
            *(channel.unary("/t.S/Echo", body, timeout_s=30) for body in bodies)
        )
    assert answers == bodies
    await server.drain(0)


async def test_a_bidirectional_handler_may_end_the_call_early_or_with_a_status(
    transport: Transport,
) -> None:
    async def once(stream: BidiStream) -> None:
        message = await stream.receive()
        if message == b"no":
            raise RpcError(RpcStatus.PERMISSION_DENIED, "no")
        if message == b"crash":
            raise ZeroDivisionError
        await stream.send(b"done")

    server = Server(transport=transport)
    server.bidi("/t.S/Once", once)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport=transport) as channel:
        call = channel.bidi("/t.S/Once", timeout_s=5)
        await call.send(b"yes")
        assert [await call.receive(), await call.receive()] == [b"done", None]
        for said, status in [
            (b"no", RpcStatus.PERMISSION_DENIED),
            (b"crash", RpcStatus.UNKNOWN),
        ]:
            call = channel.bidi("/t.S/Once", timeout_s=5)
            await call.send(said)
            with pytest.raises(RpcError) as caught:
                await call.receive()
            assert caught.value.status is status
    await server.drain(0)


async def test_a_client_that_cancels_a_bidirectional_call_cancels_its_handler(
    transport: Transport,
) -> None:
    reached, cancelled = asyncio.Event(), asyncio.Event()

    async def hold(stream: BidiStream) -> None:
        await stream.receive()
        reached.set()
        try:
            await stream.receive()
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    server = Server(transport=transport)
    server.bidi("/t.S/Hold", hold)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport=transport) as channel:
        call = channel.bidi("/t.S/Hold")
        await call.send(b"a")
        await asyncio.wait_for(reached.wait(), 5)
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 5)
    await server.drain(0)


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":80", "host:http", ""])
async def test_an_address_that_is_none_is_refused(address: str, transport: Transport) -> None:
    with pytest.raises(ValueError, match="neither host:port nor unix"):
        Channel(address, transport=transport)
