"""Large messages through windows that are far smaller, many at once, both ways."""

import asyncio

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from wire import BidiStream, Channel, Limits, Server
from wire.asyncio_io.channel import WireChannel
from wire.grpc.framing import frame_message
from wire.http2.stream import Stream

TINY = Limits(stream_window_bytes=4_000, connection_window_bytes=65_535)
SMALL = Limits(stream_window_bytes=65_535, connection_window_bytes=262_144)


@pytest.mark.parametrize("window", [TINY, SMALL])
async def test_bidirectional_calls_cross_windows_smaller_than_a_message(window: Limits) -> None:
    async def echo(stream: BidiStream) -> None:
        while (message := await stream.receive()) is not None:
            await stream.send(message)

    server = Server(transport="wire", limits=window)
    server.bidi("/t.S/Talk", echo)
    [address] = await server.listen("127.0.0.1:0")
    messages = [bytes([index]) * 30_000 for index in range(10)]

    async def talk(channel: Channel) -> list[bytes]:
        call = channel.bidi("/t.S/Talk", timeout_s=60)
        received = []
        for message in messages:
            await call.send(message)
            received.append(await call.receive() or b"")
        await call.done_writing()
        assert await call.receive() is None
        return received

    async with Channel(address, transport="wire", limits=window) as channel:
        for received in await asyncio.gather(*(talk(channel) for _ in range(8))):
            assert received == messages
    await server.drain(0)


async def test_a_sender_is_held_back_while_the_other_end_does_not_read() -> None:
    go_on = asyncio.Event()
    received: list[bytes] = []

    async def slow(stream: BidiStream) -> None:
        await go_on.wait()
        while (message := await stream.receive()) is not None:
            received.append(message)

    server = Server(transport="wire", limits=SMALL)
    server.bidi("/t.S/Slow", slow)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport="wire") as channel:
        call = channel.bidi("/t.S/Slow", timeout_s=30)
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(100):
                await call.send(bytes(10_000))
                sent += 1
            await call.done_writing()

        sending = asyncio.create_task(send())
        engine = channel._engine
        assert isinstance(engine, WireChannel)
        async with asyncio.timeout(20):
            while not any(s.send_window == 0 for s in open_streams(engine)):  # noqa: ASYNC110  (windows are numbers)
                await asyncio.sleep(0)
        for _ in range(100):  # turns in which a sender that nobody holds back would go on
            await asyncio.sleep(0)
        assert 3 <= sent <= 8  # the window is 65 535 bytes
        go_on.set()
        await sending
        assert await call.receive() is None
    assert len(received) == 100
    await server.drain(0)


async def test_an_h2_client_with_windows_of_100_bytes_gets_its_answer() -> None:
    server = Server(transport="wire")
    server.unary("/t.S/Echo", lambda message: message)
    [address] = await server.listen("127.0.0.1:0")
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    client = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=True, header_encoding=None)
    )
    codes = h2.settings.SettingCodes
    client.local_settings = h2.settings.Settings(
        client=True,
        initial_values={codes.INITIAL_WINDOW_SIZE: 100, codes.HEADER_TABLE_SIZE: 0},
    )
    client.initiate_connection()
    names = [(":method", "POST"), (":scheme", "http"), (":path", "/t.S/Echo")]
    names += [(":authority", "a"), ("content-type", "application/grpc"), ("te", "trailers")]
    client.send_headers(1, names)
    client.send_data(1, frame_message(b"y" * 5000), end_stream=True)
    writer.write(client.data_to_send())
    body, trailers = b"", None
    async with asyncio.timeout(10):
        while trailers is None:
            for event in client.receive_data(await reader.read(65_536)):
                if isinstance(event, h2.events.DataReceived):
                    body += event.data
                    client.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, h2.events.TrailersReceived):
                    trailers = event.headers
            writer.write(client.data_to_send())
    assert body == frame_message(b"y" * 5000)
    assert (b"grpc-status", b"0") in trailers
    writer.close()
    await writer.wait_closed()
    await server.drain(0)


def open_streams(channel: WireChannel) -> list[Stream]:
    return [s for p in channel.protocols for s in p.connection.streams.values()]
