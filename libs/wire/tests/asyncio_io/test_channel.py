"""The channel of the wire engine: refused streams, room, reconnecting, servers of all manners."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from wire import BackoffRules, Channel, Limits, RpcError, RpcStatus, Server
from wire.balancing.backoff import Backoff
from wire.grpc.call_ends import OK_TRAILERS, encode_trailers
from wire.grpc.framing import frame_message
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
    headers_frames,
    rst_stream,
    unpack_header,
)
from wire.http2.header_encoding import encode_fields
from wire.http2.settings import settings_frame

Answer = Callable[[int], bytes]
"""From the number of a stream to what a scripted server says when its request has come."""


def answer_ok(stream_id: int) -> bytes:
    return (
        frame(HEADERS, END_HEADERS, stream_id, RESPONSE_HEAD)
        + frame(DATA, 0, stream_id, frame_message(b"ok"))
        + frame(HEADERS, END_HEADERS | END_STREAM, stream_id, OK_TRAILERS)
    )


@asynccontextmanager
async def scripted_server(
    answers: list[Answer], greeting: bytes = frame(SETTINGS, 0, 0)
) -> AsyncIterator[tuple[str, list[int]]]:
    """Serves one answer per request, whatever the connection; yields its address and a list that
    grows by the number of requests of each connection."""
    counts: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        index = len(counts)
        counts.append(0)
        writer.write(greeting)
        try:
            await reader.readexactly(len(PREFACE))
            while answers:
                length_and_type, flags, stream_id = unpack_header(
                    await reader.readexactly(HEADER_BYTES)
                )
                await reader.readexactly(length_and_type >> 8)
                if length_and_type & 0xFF in (DATA, HEADERS) and flags & END_STREAM:
                    counts[index] += 1
                    writer.write(answers.pop(0)(stream_id))
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}", counts
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def channel_to(
    answers: list[Answer], greeting: bytes = frame(SETTINGS, 0, 0)
) -> AsyncIterator[tuple[Channel, list[int]]]:
    async with (
        scripted_server(answers, greeting) as (address, counts),
        Channel(address, transport="wire") as channel,
    ):
        yield channel, counts


def refuse(stream_id: int) -> bytes:
    return rst_stream(stream_id, ErrorCode.REFUSED_STREAM)


def leave(_: int) -> bytes:
    return goaway(0, ErrorCode.NO_ERROR)


async def call(channel: Channel) -> bytes:
    return await channel.unary("/t.S/Echo", b"", timeout_s=5)


@pytest.mark.parametrize(
    ("refusal", "requests"), [(refuse, [3]), (leave, [1, 1, 1])], ids=["RST_STREAM", "GOAWAY"]
)
async def test_a_call_that_was_not_begun_is_made_again(
    refusal: Answer, requests: list[int]
) -> None:
    async with channel_to([refusal, refusal, answer_ok]) as (channel, counts):
        assert await call(channel) == b"ok"
        assert counts == requests


async def test_a_call_that_is_refused_three_times_is_unavailable() -> None:
    async with channel_to([refuse, refuse, refuse, answer_ok]) as (channel, _):
        with pytest.raises(RpcError) as caught:
            await call(channel)
        assert caught.value.status is RpcStatus.UNAVAILABLE
        assert await call(channel) == b"ok"


def http_status(code: bytes) -> Answer:
    block = encode_fields([(b":status", code), (b"content-type", b"text/plain")])
    return lambda stream_id: headers_frames(stream_id, block, end_stream=True, max_bytes=16384)


def head_then(*frames: tuple[int, int, bytes]) -> Answer:
    return lambda stream_id: b"".join(
        frame(kind, flags, stream_id, payload)
        for kind, flags, payload in [(HEADERS, END_HEADERS, RESPONSE_HEAD), *frames]
    )


LAST = END_HEADERS | END_STREAM
DENIED = encode_trailers(RpcStatus.PERMISSION_DENIED, "no")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(http_status(b"503"), RpcStatus.UNAVAILABLE, id="HTTP 503"),
        pytest.param(http_status(b"404"), RpcStatus.UNIMPLEMENTED, id="HTTP 404"),
        pytest.param(http_status(b"200"), RpcStatus.UNKNOWN, id="no gRPC"),
        pytest.param(head_then((DATA, END_STREAM, b"")), RpcStatus.UNKNOWN, id="no trailers"),
        pytest.param(head_then((HEADERS, LAST, OK_TRAILERS)), RpcStatus.INTERNAL, id="no message"),
        pytest.param(head_then((HEADERS, LAST, DENIED)), RpcStatus.PERMISSION_DENIED, id="status"),
        pytest.param(
            head_then((DATA, 0, frame_message(b"a") * 2)), RpcStatus.INTERNAL, id="two messages"
        ),
        pytest.param(
            head_then((DATA, 0, b"\0\0\0\0\x09abc"), (HEADERS, LAST, OK_TRAILERS)),
            RpcStatus.INTERNAL,
            id="half a message",
        ),
        pytest.param(
            head_then((HEADERS, END_HEADERS, RESPONSE_HEAD)), RpcStatus.INTERNAL, id="two heads"
        ),
        pytest.param(
            lambda stream_id: rst_stream(stream_id, ErrorCode.CANCEL),
            RpcStatus.CANCELLED,
            id="reset",
        ),
        pytest.param(
            lambda _: frame(SETTINGS, 0, 0, b"x"), RpcStatus.UNAVAILABLE, id="connection fault"
        ),
    ],
)
async def test_whatever_a_server_answers_has_a_status(answer: Answer, status: RpcStatus) -> None:
    async with channel_to([answer]) as (channel, _):
        with pytest.raises(RpcError) as caught:
            await call(channel)
    assert caught.value.status is status


async def test_informational_heads_are_passed_over() -> None:
    block = encode_fields([(b":status", b"103")])

    def hint_first(stream_id: int) -> bytes:
        return frame(HEADERS, END_HEADERS, stream_id, block) + answer_ok(stream_id)

    async with channel_to([hint_first]) as (channel, _):
        assert await call(channel) == b"ok"


async def test_calls_wait_for_room_and_their_deadline_counts_while_they_wait() -> None:
    release = asyncio.Event()

    entered = asyncio.Semaphore(0)

    async def hold(message: bytes) -> bytes:
        entered.release()
        await release.wait()
        return message

    server = Server(transport="wire", max_concurrent_streams=2)
    server.unary("/t.S/Hold", hold)
    [address] = await server.listen("127.0.0.1:0")

    def held(timeout_s: float) -> Awaitable[bytes]:
        return channel.unary("/t.S/Hold", b"x", timeout_s=timeout_s)

    async with Channel(address, transport="wire") as channel:
        calls = [asyncio.ensure_future(held(10)) for _ in range(10)]
        async with asyncio.timeout(5):
            for _ in range(2):
                await entered.acquire()
        with pytest.raises(RpcError) as caught:
            await held(0.05)
        assert caught.value.status is RpcStatus.DEADLINE_EXCEEDED
        calls.pop().cancel()
        release.set()
        assert await asyncio.gather(*calls) == [b"x"] * 9
    await server.drain(0)


async def test_a_server_that_does_not_greet_is_unavailable() -> None:
    async with scripted_server([answer_ok], greeting=b"") as (address, _):
        limits = Limits(handshake_timeout_s=0.1)
        async with Channel(address, transport="wire", limits=limits) as channel:
            with pytest.raises(RpcError) as caught:
                await call(channel)
    assert caught.value.status is RpcStatus.UNAVAILABLE


async def test_after_a_failure_calls_fail_at_once_until_the_backoff_is_over() -> None:
    server = Server(transport="wire")
    server.unary("/t.S/Echo", lambda message: message)
    [address] = await server.listen("127.0.0.1:0")
    await server.drain(0)
    rules = BackoffRules(first_s=0.5, jitter=0.0)
    async with Channel(address, transport="wire", backoff=rules) as channel:
        with pytest.raises(RpcError):
            await call(channel)
        again = Server(transport="wire")
        again.unary("/t.S/Echo", lambda message: message)
        await again.listen(address)
        with pytest.raises(RpcError):
            await call(channel)
        reply: bytes | None = None
        async with asyncio.timeout(5):
            while reply is None:
                with contextlib.suppress(RpcError):
                    reply = await call(channel)
                await asyncio.sleep(0)
        assert reply == b""
        await again.drain(0)


def test_backoff_grows_to_its_longest_and_starts_anew_after_a_success() -> None:
    backoff = Backoff(BackoffRules(first_s=0.1, factor=2.0, longest_s=0.5, jitter=0.0), Random(1))
    waits = [backoff.next_wait_s() for _ in range(5)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])
    backoff.reset()
    assert backoff.next_wait_s() == pytest.approx(0.1)


async def test_closing_a_channel_ends_its_calls() -> None:
    entered = asyncio.Event()

    async def hang(_: bytes) -> bytes:
        entered.set()
        await asyncio.Event().wait()
        return b""

    server = Server(transport="wire")
    server.unary("/t.S/Hang", hang)
    [address] = await server.listen("127.0.0.1:0")
    channel = Channel(address, transport="wire")
    hanging = asyncio.ensure_future(channel.unary("/t.S/Hang", b"", timeout_s=30))
    async with asyncio.timeout(5):
        await entered.wait()
    await channel.close()
    with pytest.raises(RpcError) as caught:
        await hanging
    assert caught.value.status is RpcStatus.CANCELLED
    with pytest.raises(RpcError):
        await channel.unary("/t.S/Hang", b"", timeout_s=1)
    await server.drain(0)


async def test_the_settings_of_a_server_are_kept() -> None:
    async with channel_to([answer_ok], greeting=settings_frame({1: 0, 3: 1})) as (channel, _):
        assert await call(channel) == b"ok"
