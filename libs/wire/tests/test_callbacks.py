"""Bidirectional handlers by callbacks, and what they see of how calls end."""

import asyncio
import contextlib

import pytest

from wire import BidiStream, CallbackStream, Channel, RpcError, RpcStatus, Server, Transport
from wire.grpc.framing import frame_message
from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    rst_stream,
)
from wire.http2.frames import frame as http2_frame
from wire.testing.scripted_client import REQUEST_BLOCK


class Shout(CallbackStream):
    """Answers each message by itself and its capitals; notes what it is told."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def on_open(self) -> None:
        self._told.append(f"open {self.metadata.get('x-who', '')}")

    def on_message(self, message: bytes) -> None:
        self._told.append(message.decode())
        if message == b"fail":
            raise ZeroDivisionError
        if message == b"refuse":
            self.finish(RpcStatus.NOT_FOUND, "no such thing")
        self.send_many([message, message.upper()])

    def on_end(self) -> None:
        self._told.append("end")
        self.send(b"bye")
        self.finish()

    def on_reset(self) -> None:
        self._told.append("reset")


class Serving(contextlib.AsyncExitStack):
    def __init__(self, transport: Transport) -> None:
        super().__init__()
        self.told: list[str] = []
        self.errors: list[str] = []
        self._server = Server(transport=transport, on_error=self._note)
        self._server.bidi_callbacks("/t.S/Echo", lambda: Shout(self.told))
        self._transport = transport

    async def channel(self) -> Channel:
        channel = Channel(await self.address(), transport=self._transport)
        return await self.enter_async_context(channel)

    async def address(self) -> str:
        [address] = await self._server.listen("127.0.0.1:0")
        self.push_async_callback(self._server.drain, 0)
        return address

    def _note(self, _: str, error: Exception) -> None:
        self.errors.append(repr(error))


async def test_callbacks_answer_messages_and_end_the_call(transport: Transport) -> None:
    async with Serving(transport) as serving:
        channel = await serving.channel()
        call = channel.bidi("/t.S/Echo", timeout_s=5, metadata={"x-who": "me"})
        await call.send(b"a")
        assert [await call.receive(), await call.receive()] == [b"a", b"A"]
        await call.done_writing()
        assert [await call.receive(), await call.receive()] == [b"bye", None]
        assert serving.told == ["open me", "a", "end"]


@pytest.mark.parametrize(
    ("said", "status"), [(b"fail", RpcStatus.UNKNOWN), (b"refuse", RpcStatus.NOT_FOUND)]
)
async def test_what_a_callback_raises_or_says_is_the_end_of_its_call(
    transport: Transport, said: bytes, status: RpcStatus
) -> None:
    async with Serving(transport) as serving:
        call = (await serving.channel()).bidi("/t.S/Echo", timeout_s=5)
        await call.send(said)
        with pytest.raises(RpcError) as caught:
            await call.receive()
        assert caught.value.status is status
        assert serving.errors == (["ZeroDivisionError()"] if said == b"fail" else [])


async def test_a_factory_that_fails_ends_its_call_and_no_other(transport: Transport) -> None:
    def fail() -> CallbackStream:
        raise ZeroDivisionError

    server = Server(transport=transport)
    server.bidi_callbacks("/t.S/Fail", fail)
    server.bidi_callbacks("/t.S/Echo", lambda: Shout([]))
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport=transport) as channel:
        other = channel.bidi("/t.S/Echo", timeout_s=5)
        await other.send(b"a")
        call = channel.bidi("/t.S/Fail", timeout_s=5)
        with pytest.raises(RpcError) as caught:
            await call.receive()
        assert caught.value.status is RpcStatus.UNKNOWN
        assert await other.receive() == b"a"
        other.cancel()
    await server.drain(0)


async def test_a_cancelled_call_resets_its_callbacks(transport: Transport) -> None:
    async with Serving(transport) as serving:
        call = (await serving.channel()).bidi("/t.S/Echo", timeout_s=5)
        await call.send(b"a")
        await call.receive()
        call.cancel()
        async with asyncio.timeout(5):
            while serving.told[-1] != "reset":  # noqa: ASYNC110  (what is told are words)
                await asyncio.sleep(0.01)


async def finished_and_reset(address: str) -> None:
    """One exchange as Envoy ends it: END_STREAM and RST_STREAM in the same packet."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(PREFACE + http2_frame(SETTINGS, 0, 0))
    writer.write(
        http2_frame(HEADERS, END_HEADERS, 1, REQUEST_BLOCK)
        + http2_frame(DATA, 0, 1, frame_message(b"a"))
        + http2_frame(DATA, END_STREAM, 1)
        + rst_stream(1, ErrorCode.INTERNAL_ERROR)
        + http2_frame(PING, 0, 0, b"all read")
    )
    async with asyncio.timeout(5):
        await reader.readuntil(b"all read")  # frames are answered in order
    writer.close()
    await writer.wait_closed()


async def test_callbacks_see_the_end_before_the_reset_that_comes_with_it() -> None:
    async with Serving("wire") as serving:
        await finished_and_reset(await serving.address())
        assert serving.told == ["open ", "a", "end"]


async def test_a_coroutine_sees_the_end_before_the_reset_that_comes_with_it() -> None:
    told: list[object] = []

    async def handle(stream: BidiStream) -> None:
        try:
            while (message := await stream.receive()) is not None:
                told.append(message)
                await stream.send(message)
            told.append("end")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    server = Server(transport="wire")
    server.bidi("/t.S/Echo", handle)
    [address] = await server.listen("127.0.0.1:0")
    await finished_and_reset(address)
    await server.drain(0)
    assert told == [b"a", "end", "cancelled"]
