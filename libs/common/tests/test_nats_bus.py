"""nats_bus.py against a real nats-server on a free loopback port."""

import asyncio
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pointsman_common.clock import SystemClock
from pointsman_common.errors import BusUnavailableError, SettingsError
from pointsman_common.nats_bus import NatsBus
from pointsman_common.testing.waiting import until

BINARY = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"


class NatsServer:
    """A server that is started and killed by its own process handle."""

    def __init__(self, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            BINARY,
            *("-a", "127.0.0.1", "-p", str(self.port)),
            *self._arguments,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


@asynccontextmanager
async def a_server(*arguments: str, start: bool = True) -> AsyncIterator[NatsServer]:
    server = NatsServer(*arguments)
    if start:
        await server.start()
    try:
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def a_bus(
    server: NatsServer, *, connected: bool = True, buffer_messages: int = 10_000
) -> AsyncIterator[NatsBus]:
    bus = NatsBus(server.url, SystemClock(), name="test", buffer_messages=buffer_messages)
    task = asyncio.create_task(bus.run())
    if connected:
        await until(lambda: bus.connected)
    yield bus
    assert not task.done(), "the part has ended by itself"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Inbox:
    """What one subscription has received."""

    def __init__(self, bus: NatsBus, subject: str) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.end = bus.subscribe(subject, lambda *message: self.messages.append(message))

    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.messages]


async def subscribed(bus: NatsBus, inbox: Inbox, subject: str) -> None:
    """Publish until messages come round, and let the last of them pass."""

    def came() -> bool:
        bus.publish(subject, b"ping")
        return bool(inbox.messages)

    await until(came)
    bus.publish(subject, b"sync")
    await until(lambda: inbox.messages[-1][1] == b"sync")
    inbox.messages.clear()


async def test_messages_reach_every_subscriber_in_order() -> None:
    async with a_server() as server, a_bus(server) as one, a_bus(server) as other:
        inboxes = [Inbox(one, "a.*"), Inbox(other, "a.b")]
        for inbox in inboxes:
            await subscribed(one, inbox, "a.b")
        expected = [str(index).encode() for index in range(100)]
        for payload in expected:
            one.publish("a.b", payload)
        await until(lambda: all(inbox.payloads()[-100:] == expected for inbox in inboxes))
        assert one.dropped == 0


async def test_a_subscription_ends_when_it_is_told_to() -> None:
    async with a_server() as server, a_bus(server) as bus:
        ended, kept = Inbox(bus, "a"), Inbox(bus, "a")
        await subscribed(bus, kept, "a")
        ended.end()
        ended.end()
        at_once = Inbox(bus, "a")
        at_once.end()
        await until(lambda: not bus._tasks)
        ended.messages.clear()
        bus.publish("a", b"1")
        await until(lambda: kept.messages)
        assert (ended.messages, at_once.messages) == ([], [])


async def test_a_handler_that_fails_does_not_end_its_subscription() -> None:
    async with a_server() as server, a_bus(server) as bus:
        seen: list[bytes] = []

        def fail_once(_: str, payload: bytes) -> None:
            seen.append(payload)
            if len(seen) == 1:
                raise ZeroDivisionError

        bus.subscribe("a", fail_once)
        inbox = Inbox(bus, "a")
        await subscribed(bus, inbox, "a")
        bus.publish("a", b"after")
        await until(lambda: seen[-1] == b"after")


async def test_a_query_gathers_the_answers_of_all_who_answer() -> None:
    async with a_server() as server, a_bus(server) as asking, a_bus(server) as one:
        one.respond("q", lambda _, payload: payload + b" one")
        one.respond("q", lambda *_: b"")
        one.respond("q", lambda *_: None)
        inbox = Inbox(one, "q")
        await subscribed(asking, inbox, "q")
        answers = await asking.query("q", b"hello", timeout_s=0.2)
        assert sorted(answers) == [b"", b"hello one"]


async def test_a_responder_that_fails_keeps_silent_and_answers_the_next_time() -> None:
    async with a_server() as server, a_bus(server) as bus:

        def answer(_: str, payload: bytes) -> bytes:
            if payload == b"bad":
                raise ValueError(payload)
            return payload

        bus.respond("q", answer)
        assert await bus.query("q", b"bad", timeout_s=0.05) == []
        assert await bus.query("q", b"good", timeout_s=1.0) == [b"good"]


async def test_a_query_that_nobody_answers_is_empty_after_its_time() -> None:
    async with a_server() as server, a_bus(server) as bus:
        assert await bus.query("nobody", b"", timeout_s=0.05) == []


async def test_a_query_without_the_bus_says_so() -> None:
    async with a_server(start=False) as server, a_bus(server, connected=False) as bus:
        with pytest.raises(BusUnavailableError):
            await bus.query("q", b"", timeout_s=0.05)


async def test_a_service_starts_without_a_server_and_its_messages_wait_for_one() -> None:
    async with a_server(start=False) as server, a_bus(server, connected=False) as bus:
        back: list[str] = []
        bus.on_reconnect(lambda: back.append("back"))
        inbox = Inbox(bus, "a")
        for payload in (b"1", b"2"):
            bus.publish("a", payload)
        await until(lambda: bus._was_away)
        await server.start()
        await until(lambda: len(inbox.messages) == 2)
        assert (inbox.payloads(), bus.dropped, back) == ([b"1", b"2"], 0, ["back"])


async def test_subscriptions_and_messages_survive_a_server_that_dies_and_comes_back() -> None:
    async with a_server() as server, a_bus(server) as bus:
        back: list[str] = []
        bus.on_reconnect(lambda: back.append("back"))
        inbox = Inbox(bus, "a")
        await subscribed(bus, inbox, "a")
        await server.kill()
        await until(lambda: not bus.connected)
        for index in range(5):
            bus.publish("a", str(index).encode())
        late = Inbox(bus, "late")
        await server.start()
        await until(lambda: len(inbox.messages) >= 5)
        assert inbox.payloads() == [b"0", b"1", b"2", b"3", b"4"]
        assert (back, bus.dropped) == (["back"], 0)
        bus.publish("late", b"too")
        await until(lambda: late.messages)


async def test_while_the_server_is_away_the_oldest_messages_are_dropped_and_counted() -> None:
    async with (
        a_server(start=False) as server,
        a_bus(server, connected=False, buffer_messages=3) as bus,
    ):
        inbox = Inbox(bus, "a")
        for index in range(10):
            bus.publish("a", str(index).encode())
        assert bus.dropped == 7
        await server.start()
        await until(lambda: len(inbox.messages) == 3)
        assert inbox.payloads() == [b"7", b"8", b"9"]


def test_the_buffer_is_bounded_in_bytes_too_and_a_giant_drives_out_nobody() -> None:
    bus = NatsBus("nats://nats:4222", SystemClock(), name="test", buffer_bytes=10)
    for _ in range(3):
        bus.publish("a", b"12345")
    assert bus.dropped == 1
    bus.publish("a", b"x" * 11)
    assert bus.dropped == 2


async def test_a_message_that_the_server_cannot_take_does_not_hold_up_the_others() -> None:
    async with a_server() as server, a_bus(server) as bus:
        inbox = Inbox(bus, "a")
        await subscribed(bus, inbox, "a")
        bus.publish("", b"no subject")
        bus.publish("has spaces", b"")
        bus.publish("a", b"x" * (2 << 20))
        bus.publish("a", b"good")
        await until(lambda: inbox.messages)
        assert (inbox.payloads(), bus.dropped) == ([b"good"], 3)


async def test_an_error_that_ends_the_connection_for_good_is_outlived() -> None:
    async with a_server() as server, a_bus(server) as bus:
        inbox = Inbox(bus, "a")
        await subscribed(bus, inbox, "a")
        client = bus._client  # what the server's -ERR does, without waiting for one
        assert client is not None
        await client._process_err("'maximum subscriptions exceeded'")
        await until(lambda: client.is_closed)
        bus.publish("a", b"after")
        await until(lambda: b"after" in inbox.payloads())
        assert bus._client is not client


async def test_draining_sends_what_waits() -> None:
    async with a_server() as server, a_bus(server) as reader:
        inbox = Inbox(reader, "a")
        await subscribed(reader, inbox, "a")
        async with a_bus(server) as writer:
            writer.publish("a", b"last words")
            await writer.drain(5.0)
        await until(lambda: inbox.payloads() == [b"last words"])


async def test_draining_while_the_server_is_away_returns_at_once() -> None:
    async with a_server(start=False) as server, a_bus(server, connected=False) as bus:
        bus.publish("a", b"1")
        async with asyncio.timeout(1):
            await bus.drain(30.0)


async def test_a_password_is_used_and_a_wrong_one_keeps_the_bus_away() -> None:
    async with a_server("--user", "me", "--pass", "s3cret") as server:
        server.url = f"nats://me:s3cret@127.0.0.1:{server.port}"
        async with a_bus(server) as bus:
            assert bus.connected
        server.url = f"nats://me:wrong@127.0.0.1:{server.port}"
        async with a_bus(server, connected=False) as bus:
            await until(lambda: bus._was_away)
            assert not bus.connected


async def test_one_of_several_servers_is_enough() -> None:
    async with a_server() as server, a_server(start=False) as nobody:
        server.url = f"{nobody.url}, {server.url}"
        async with a_bus(server) as bus:
            assert bus.connected


async def test_what_is_no_url_is_refused_as_a_setting() -> None:
    with pytest.raises(SettingsError, match="bus_url"):
        await NatsBus("nats://host:port", SystemClock(), name="test").run()
