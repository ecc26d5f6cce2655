"""The server of the wire engine on real sockets: peers that misbehave, handlers that fail."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from wire import BidiStream, Channel, Limits, RpcError, RpcStatus, Server
from wire.grpc.framing import frame_message
from wire.http2.errors import ErrorCode
from wire.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_BYTES,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
    read_uint32,
    unpack_header,
)
from wire.http2.header_encoding import encode_fields
from wire.testing.scripted_client import REQUEST_BLOCK, REQUEST_FIELDS


@asynccontextmanager
async def raw_client(
    limits: Limits | None = None, **server_options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Server]]:
    server = Server(transport="wire", limits=limits, **server_options)
    server.unary("/t.S/Echo", lambda message: message)
    [address] = await server.listen("127.0.0.1:0")
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(PREFACE + frame(SETTINGS, 0, 0))
    yield reader, writer, server
    writer.close()
    await server.drain(0)


async def next_frame(reader: asyncio.StreamReader, kind: int) -> bytes:
    """The payload of the next frame of `kind`, within a while."""
    async with asyncio.timeout(5):
        while True:
            length_and_type, _, _ = unpack_header(await reader.readexactly(HEADER_BYTES))
            payload = await reader.readexactly(length_and_type >> 8)
            if length_and_type & 0xFF == kind:
                return payload


async def test_a_peer_gets_to_read_why_it_is_left() -> None:
    async with raw_client() as (reader, writer, _):
        writer.write(frame(DATA, 0, 99, bytes(100)) + bytes(100_000))
        payload = await next_frame(reader, GOAWAY)
        assert read_uint32(payload, 4) == ErrorCode.PROTOCOL_ERROR
        assert await reader.read() == b""


async def test_a_peer_that_makes_us_write_and_does_not_read_is_cut_off() -> None:
    limits = Limits(max_output_backlog_bytes=10_000)
    block = encode_fields([*REQUEST_FIELDS[:2], (b":path", b"/t.S/None"), *REQUEST_FIELDS[3:]])
    async with raw_client(limits) as (_, writer, __):
        with pytest.raises(ConnectionError):
            for stream_id in range(1, 1_000_000, 2):
                writer.write(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, block))
                await writer.drain()


async def test_a_silent_connection_is_ended_when_its_time_is_over() -> None:
    async with raw_client(Limits(idle_timeout_s=0.05)) as (reader, _, __):
        assert read_uint32(await next_frame(reader, GOAWAY), 4) == ErrorCode.NO_ERROR


async def test_a_deadline_told_by_the_client_ends_the_call_at_the_server() -> None:
    ended = asyncio.Event()

    async def hang(_: bytes) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async with raw_client() as (reader, writer, server):
        server.unary("/t.S/Hang", hang)
        fields = [*REQUEST_FIELDS[:2], (b":path", b"/t.S/Hang"), *REQUEST_FIELDS[3:]]
        block = encode_fields([*fields, (b"grpc-timeout", b"20m")])
        writer.write(frame(HEADERS, END_HEADERS, 1, block))
        writer.write(frame(DATA, END_STREAM, 1, frame_message(b"")))
        status = encode_fields([(b"grpc-status", b"4")])
        assert status in await next_frame(reader, HEADERS)
        await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize("body", [b"", frame_message(b"a") + frame_message(b"b")])
async def test_a_unary_call_has_one_message(body: bytes) -> None:
    async with raw_client() as (reader, writer, _):
        writer.write(frame(HEADERS, END_HEADERS, 1, REQUEST_BLOCK))
        writer.write(frame(DATA, END_STREAM, 1, body))
        status = encode_fields([(b"grpc-status", b"13")])
        assert status in await next_frame(reader, HEADERS)


async def test_a_request_that_is_no_call_gets_an_http_status() -> None:
    async with raw_client() as (reader, writer, _):
        fields = [field for field in REQUEST_FIELDS if field[0] != b"content-type"]
        writer.write(frame(HEADERS, END_HEADERS | END_STREAM, 1, encode_fields(fields)))
        assert (await next_frame(reader, HEADERS)).endswith(b"415")


@asynccontextmanager
async def served(register: Callable[[Server], None]) -> AsyncIterator[tuple[Channel, list[str]]]:
    errors: list[str] = []
    server = Server(transport="wire", on_error=lambda path, error: errors.append(repr(error)))
    register(server)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport="wire") as channel:
        yield channel, errors
    await server.drain(0)


async def test_a_handler_that_answers_no_bytes_has_failed() -> None:
    async def nothing(_: bytes) -> bytes:
        return None  # type: ignore[return-value]

    def register(server: Server) -> None:
        server.unary("/t.S/Text", lambda _: "text")  # type: ignore[arg-type, return-value]
        server.unary("/t.S/Nothing", nothing)

    async with served(register) as (channel, errors):
        for path in ("/t.S/Text", "/t.S/Nothing"):
            with pytest.raises(RpcError) as caught:
                await channel.unary(path, b"", timeout_s=5)
            assert caught.value.status is RpcStatus.UNKNOWN
    assert [error.split("(")[0] for error in errors] == ["TypeError", "TypeError"]


async def test_several_messages_are_sent_at_once() -> None:
    async def count(stream: BidiStream) -> None:
        await stream.send_many([b"1", b"2", b"3"])
        await stream.send_many([bytes(900_000), bytes(900_000)])

    async with served(lambda server: server.bidi("/t.S/Count", count)) as (channel, _):
        call = channel.bidi("/t.S/Count", timeout_s=5)
        assert [await call.receive() for _ in range(3)] == [b"1", b"2", b"3"]
        sizes = [len(await call.receive() or b"") for _ in range(2)]
        assert sizes == [900_000, 900_000]
        assert await call.receive() is None


async def test_a_call_over_the_limit_is_not_sent_and_one_without_time_neither() -> None:
    async with served(lambda server: server.unary("/t.S/Echo", lambda message: message)) as (
        channel,
        _,
    ):
        with pytest.raises(RpcError) as caught:
            await channel.bidi("/t.S/Echo").send(bytes(5 << 20))
        assert caught.value.status is RpcStatus.RESOURCE_EXHAUSTED
        with pytest.raises(RpcError) as caught:
            await channel.unary("/t.S/Echo", b"", timeout_s=0)
        assert caught.value.status is RpcStatus.DEADLINE_EXCEEDED


async def test_a_drained_server_leaves_no_socket_and_takes_none_of_its_successor(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s.sock"
    first, second = Server(transport="wire"), Server(transport="wire")
    await first.listen(f"unix://{path}")
    await second.listen(f"unix://{path}")
    await first.drain(0)
    assert path.exists()
    await second.drain(0)
    assert not path.exists()


async def test_a_name_of_several_addresses_gets_one_port() -> None:
    server = Server(transport="wire")
    server.unary("/t.S/Echo", lambda message: message)
    [address] = await server.listen("localhost:0")
    async with Channel(address, transport="wire") as channel:
        assert await channel.unary("/t.S/Echo", b"x", timeout_s=5) == b"x"
    await server.drain(0)


def test_an_engine_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="neither"):
        Server(transport="quic")  # type: ignore[arg-type]
