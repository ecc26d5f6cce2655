"""Bidirectional calls that servers refuse, connections that are left, and dials that fail."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from wire import (
    BackoffRules,
    BalancingRules,
    BidiStream,
    Channel,
    ClientTls,
    RpcError,
    RpcStatus,
    Server,
)
from wire.grpc.call_ends import OK_TRAILERS
from wire.grpc.framing import MessageReader, frame_message
from wire.grpc.heads import RESPONSE_HEAD
from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER_BYTES,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
    goaway,
    rst_stream,
    unpack_header,
    window_update,
)
from wire.http2.settings import settings_frame

PATIENCE_S = 20.0
GREETING = settings_frame({4: 4 << 20}) + window_update(0, 1 << 30)


class Script:
    """Refuses so many calls when their request has ended, then answers with what was said."""

    def __init__(self, refusals: int, refuse: Callable[[int], bytes]) -> None:
        self.left, self.refuse = refusals, refuse
        self.heard: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(GREETING)
        await reader.readexactly(len(PREFACE))
        messages, said = MessageReader(8 << 20), list[bytes]()
        while True:
            length_and_type, flags, stream_id = unpack_header(
                await reader.readexactly(HEADER_BYTES)
            )
            payload = await reader.readexactly(length_and_type >> 8)
            kind = length_and_type & 0xFF
            if kind == HEADERS:
                messages, said = MessageReader(8 << 20), list[bytes]()
            elif kind == DATA:
                said += messages.feed(payload)
                if flags & END_STREAM:
                    self.heard = said
                    writer.write(self.answer(stream_id))

    def answer(self, stream_id: int) -> bytes:
        self.left -= 1
        if self.left >= 0:
            return self.refuse(stream_id)
        return (
            frame(HEADERS, END_HEADERS, stream_id, RESPONSE_HEAD)
            + frame(DATA, 0, stream_id, frame_message(b"ok"))
            + frame(HEADERS, END_HEADERS | END_STREAM, stream_id, OK_TRAILERS)
        )


def refuse(stream_id: int) -> bytes:
    return rst_stream(stream_id, ErrorCode.REFUSED_STREAM)


def leave(_: int) -> bytes:
    return goaway(0, ErrorCode.NO_ERROR)


def refuse_late(stream_id: int) -> bytes:
    return frame(HEADERS, END_HEADERS, stream_id, RESPONSE_HEAD) + refuse(stream_id)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """A server of streams; leaves when the clients have left and all its connections are closed."""
    ends: list[asyncio.Task[object] | None] = []

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(asyncio.current_task())
        try:
            await serve(reader, writer)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve_and_close, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        await server.wait_closed()
        if open_ends := [task for task in ends if task is not None]:
            await asyncio.wait(open_ends, timeout=PATIENCE_S)


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Channel]:
    async with listening(script.serve) as address, Channel(address, transport="wire") as channel:
        await channel.unary("/t.S/Warm", b"", timeout_s=PATIENCE_S)
        yield channel


async def converse(channel: Channel, *messages: bytes) -> bytes | None:
    call = channel.bidi("/t.S/Talk", timeout_s=PATIENCE_S)
    for message in messages:
        await call.send(message)
    await call.done_writing()
    reply = await call.receive()
    assert await call.receive() is None
    return reply


@pytest.mark.parametrize("how", [refuse, leave], ids=["RST_STREAM", "GOAWAY"])
async def test_a_refused_call_is_made_again_with_all_that_was_sent(
    how: Callable[[int], bytes],
) -> None:
    script = Script(0, how)
    async with scripted(script) as channel:
        script.left = 2
        assert await converse(channel, b"a", b"b" * 100_000, b"") == b"ok"
    assert script.heard == [b"a", b"b" * 100_000, b""]
    assert script.connections == (1 if how is refuse else 3)


@pytest.mark.parametrize(
    ("refusals", "how", "messages"),
    [
        pytest.param(3, refuse, [b"a"], id="three times"),
        pytest.param(1, refuse_late, [b"a"], id="after its answer began"),
        pytest.param(1, refuse, [bytes(600_000)] * 2, id="more sent than is remembered"),
    ],
)
async def test_a_call_is_not_made_again_for_ever_nor_when_that_is_not_safe(
    refusals: int, how: Callable[[int], bytes], messages: list[bytes]
) -> None:
    script = Script(0, how)
    async with scripted(script) as channel:
        script.left = refusals
        with pytest.raises(RpcError) as caught:
            await converse(channel, *messages)
        assert caught.value.status is RpcStatus.UNAVAILABLE
        assert await converse(channel, b"again") == b"ok"


async def test_a_call_that_was_cancelled_is_not_made_again() -> None:
    script = Script(0, refuse)
    async with scripted(script) as channel:
        call = channel.bidi("/t.S/Talk", timeout_s=PATIENCE_S)
        call.cancel()
        for end in (call.receive(), call.send(b"")):
            with pytest.raises(RpcError) as caught:
                await end
            assert caught.value.status is RpcStatus.CANCELLED


async def test_a_refused_call_goes_to_another_server_if_there_is_one() -> None:
    script = Script(1_000_000, refuse)
    good = Server(transport="wire")
    good.unary("/t.S/Echo", lambda message: message)
    [address] = await good.listen("127.0.0.1:0")
    async with (
        listening(script.serve) as refusing,
        Channel([refusing, address], transport="wire") as channel,
    ):
        for _ in range(20):
            assert await channel.unary("/t.S/Echo", b"x", timeout_s=PATIENCE_S) == b"x"
    await good.drain(0)


async def test_a_connection_that_says_goaway_is_replaced_before_the_next_call() -> None:
    script = Script(0, leave)
    async with scripted(script) as channel:
        script.left = 1
        with_goaway = asyncio.ensure_future(converse(channel, b"a"))
        assert await with_goaway == b"ok"
        assert script.connections == 2


async def test_a_server_that_closes_what_it_accepts_is_not_dialled_without_a_pause() -> None:
    accepted = 0

    async def shut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.write(frame(SETTINGS, 0, 0) + goaway(0, ErrorCode.NO_ERROR))
        writer.close()

    rules = BackoffRules(first_s=0.1, jitter=0.0)
    async with (
        listening(shut) as address,
        Channel(address, transport="wire", backoff=rules) as channel,
    ):
        ends_at = asyncio.get_running_loop().time() + 0.35
        while asyncio.get_running_loop().time() < ends_at:
            with pytest.raises(RpcError) as caught:
                await channel.unary("/t.S/Echo", b"", timeout_s=PATIENCE_S)
            assert caught.value.status is RpcStatus.UNAVAILABLE
            await asyncio.sleep(0.001)
    assert accepted <= 8


async def test_a_dial_ends_when_its_time_is_over() -> None:
    """Here in the TLS handshake, which a silent server never answers."""

    async def ignore(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        pass

    rules, tls = BalancingRules(connect_timeout_s=0.1), ClientTls(server_name="router")
    async with (
        asyncio.timeout(PATIENCE_S),
        listening(ignore) as address,
        Channel(address, transport="wire", tls=tls, balancing=rules) as channel,
    ):
        with pytest.raises(RpcError, match="no connection in time") as caught:
            await channel.unary("/t.S/Echo", b"", timeout_s=PATIENCE_S)
        assert caught.value.status is RpcStatus.UNAVAILABLE


async def test_a_handler_on_grpcio_that_outlives_its_server_hears_of_it() -> None:
    """What grpcio raises then is an error of ours, or the handler's cancellation."""
    ends: list[BaseException] = []
    entered, ended = asyncio.Event(), asyncio.Event()

    async def linger(stream: BidiStream) -> None:
        entered.set()
        try:
            while await stream.receive() is not None:
                pass
            while True:
                await stream.send(b"x")
                await asyncio.sleep(0)
        except BaseException as error:
            ends.append(error)
            ended.set()
            raise

    errors: list[Exception] = []
    server = Server(transport="grpcio", on_error=lambda _, error: errors.append(error))
    server.bidi("/t.S/Linger", linger)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport="grpcio") as channel:
        call = channel.bidi("/t.S/Linger", timeout_s=PATIENCE_S)
        await call.send(b"")
        async with asyncio.timeout(PATIENCE_S):
            await entered.wait()
            await server.drain(0)
            with pytest.raises(RpcError):
                while True:
                    await call.receive()
            await ended.wait()
    assert isinstance(ends[0], (asyncio.CancelledError, RpcError))
    assert not errors
