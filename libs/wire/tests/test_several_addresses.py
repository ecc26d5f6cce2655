"""Channels to several addresses, on both engines: spread, replicas that come and go, names."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from wire import (
    BackoffRules,
    BalancingRules,
    BidiStream,
    Channel,
    RpcError,
    RpcStatus,
    Server,
    TcpAddress,
    Transport,
)
from wire.asyncio_io.channel import WireChannel

PATIENCE_S = 20.0
QUICK = BalancingRules(
    resolve_interval_s=0.05, resolve_pause_s=0.02, ejection=BackoffRules(first_s=0.2)
)


async def replica(transport: Transport, name: str, address: str = "127.0.0.1:0") -> "Replica":
    server = Server(transport=transport)
    replica = Replica(server, name)
    server.unary("/t.S/Who", replica.who)
    server.unary("/t.S/Hold", replica.hold)
    server.bidi("/t.S/Talk", replica.talk)
    [replica.address] = await server.listen(address)
    return replica


class Replica:
    """A server that says its name."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name, self.address = server, name, ""
        self.failing: RpcStatus | None = None
        self.held, self.release = asyncio.Event(), asyncio.Event()

    def who(self, _: bytes) -> bytes:
        if self.failing is not None:
            raise RpcError(self.failing, "failing")
        return self.name.encode()

    async def hold(self, _: bytes) -> bytes:
        self.held.set()
        await self.release.wait()
        return self.name.encode()

    async def talk(self, stream: BidiStream) -> None:
        while await stream.receive() is not None:
            await stream.send(self.name.encode())


@asynccontextmanager
async def replicas(transport: Transport, count: int) -> AsyncIterator[list[Replica]]:
    started = [await replica(transport, str(number)) for number in range(count)]
    try:
        yield started
    finally:
        for one in started:
            await one.server.drain(0)


async def who(channel: Channel) -> str:
    return (await channel.unary("/t.S/Who", b"", timeout_s=PATIENCE_S)).decode()


async def all_answer(channel: Channel, names: set[str], *, may_fail: bool = False) -> None:
    """Wait until just these answer; `may_fail`: calls may be UNAVAILABLE in the meantime."""
    found: set[str] = set()
    async with asyncio.timeout(PATIENCE_S):
        while found != names:
            await asyncio.sleep(0.01)
            try:
                found = {await who(channel) for _ in range(4 * len(names))}
            except RpcError as error:
                if not may_fail or error.status is not RpcStatus.UNAVAILABLE:
                    raise


class Names:
    """A resolver that knows what it is told."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.error: Exception | None = None
        self.asked: list[str] = []
        self.news = asyncio.Event()

    async def resolve(self, host: str, port: int) -> Sequence[TcpAddress]:
        self.asked.append(f"{host}:{port}")
        self.news.set()
        if self.error is not None:
            raise self.error
        pairs = (address.rpartition(":") for address in self.addresses)
        return [TcpAddress(found, int(at)) for found, _, at in pairs]


async def test_calls_spread_over_all_addresses(transport: Transport) -> None:
    async with replicas(transport, 3) as servers:
        addresses = ",".join(one.address for one in servers)
        async with Channel(addresses, transport=transport) as channel:
            await all_answer(channel, {"0", "1", "2"})
            counts = Counter([await who(channel) for _ in range(30)])
            assert counts == {"0": 10, "1": 10, "2": 10}


async def test_a_call_goes_where_the_fewest_are_open(transport: Transport) -> None:
    async with (
        replicas(transport, 2) as (one, other),
        Channel([one.address, other.address], transport=transport) as channel,
    ):
        await all_answer(channel, {"0", "1"})
        held = asyncio.ensure_future(channel.unary("/t.S/Hold", b"", timeout_s=PATIENCE_S))
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait(
                [asyncio.ensure_future(item.held.wait()) for item in (one, other)],
                return_when=asyncio.FIRST_COMPLETED,
            )
        busy, free = (one, other) if one.held.is_set() else (other, one)
        assert {await who(channel) for _ in range(10)} == {free.name}
        busy.release.set()
        assert await held == busy.name.encode()
        other.held.set()  # ends the wait above
        one.held.set()


async def test_an_address_without_a_server_costs_no_call(transport: Transport) -> None:
    async with replicas(transport, 2) as (one, dead):
        await dead.server.drain(0)
        async with Channel([dead.address, one.address], transport=transport) as channel:
            async with asyncio.timeout(PATIENCE_S):
                assert {await who(channel) for _ in range(20)} == {"0"}


async def test_a_replica_that_answers_unavailable_is_passed_over_and_comes_back(
    transport: Transport,
) -> None:
    async with replicas(transport, 2) as (one, other):
        addresses = [one.address, other.address]
        async with Channel(addresses, transport=transport, balancing=QUICK) as channel:
            await all_answer(channel, {"0", "1"})
            other.failing = RpcStatus.UNAVAILABLE
            with pytest.raises(RpcError):
                for _ in range(4):
                    await who(channel)
            assert {await who(channel) for _ in range(10)} == {"0"}
            other.failing = None
            await all_answer(channel, {"0", "1"})


async def test_other_errors_do_not_have_a_replica_passed_over(transport: Transport) -> None:
    async with (
        replicas(transport, 2) as (one, other),
        Channel([one.address, other.address], transport=transport) as channel,
    ):
        await all_answer(channel, {"0", "1"})
        other.failing = RpcStatus.INVALID_ARGUMENT
        failures = 0
        for _ in range(20):
            try:
                await who(channel)
            except RpcError:
                failures += 1
        assert failures == 10


async def test_a_replica_that_restarts_is_found_again(transport: Transport) -> None:
    async with (
        replicas(transport, 2) as (one, other),
        Channel([one.address, other.address], transport=transport) as channel,
    ):
        await all_answer(channel, {"0", "1"})
        await other.server.drain(0)
        # grpcio may take a connection for one that it learns too late to be gone.
        await all_answer(channel, {"0"}, may_fail=transport == "grpcio")
        again = await replica(transport, "2", other.address)
        await all_answer(channel, {"0", "2"})
        await again.server.drain(0)


async def test_replicas_behind_a_name_are_noticed_and_left(transport: Transport) -> None:
    async with replicas(transport, 2) as (one, other):
        names = Names(one.address)
        async with Channel(
            "router:80", transport=transport, balancing=QUICK, resolver=names
        ) as channel:
            assert await who(channel) == "0"
            names.addresses = [one.address, other.address]
            await all_answer(channel, {"0", "1"})
            held = asyncio.ensure_future(channel.unary("/t.S/Hold", b"", timeout_s=PATIENCE_S))
            talks = [channel.bidi("/t.S/Talk", timeout_s=PATIENCE_S) for _ in range(2)]
            async with asyncio.timeout(PATIENCE_S):
                for talk in talks:
                    await talk.send(b"")
                    assert await talk.receive() is not None
                held_by = [asyncio.ensure_future(item.held.wait()) for item in (one, other)]
                await asyncio.wait(held_by, return_when=asyncio.FIRST_COMPLETED)
            busy, free = (one, other) if one.held.is_set() else (other, one)
            names.addresses = [free.address]
            async with asyncio.timeout(PATIENCE_S):
                for _ in range(3):
                    names.news.clear()
                    await names.news.wait()
            await all_answer(channel, {free.name})
            # What was open on the one that is gone goes on to its end.
            busy.release.set()
            assert await held == busy.name.encode()
            for talk in talks:
                await talk.send(b"")
                assert await talk.receive() is not None
                await talk.done_writing()
                assert await talk.receive() is None
            free.held.set()
            await asyncio.wait(held_by)
            await all_answer(channel, {free.name})
    assert set(names.asked) == {"router:80"}


async def test_a_name_that_cannot_be_resolved_is_unavailable_with_the_reason(
    transport: Transport,
) -> None:
    names = Names()
    names.error = OSError("no such host")
    async with Channel(
        "router:80", transport=transport, balancing=QUICK, resolver=names
    ) as channel:
        with pytest.raises(RpcError, match=r"router:80.*no such host") as caught:
            await who(channel)
        assert caught.value.status is RpcStatus.UNAVAILABLE
        names.error = None
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(4):  # it goes on asking
                await names.news.wait()
                names.news.clear()
        with pytest.raises(RpcError, match="no address"):
            await who(channel)


async def test_a_resolver_out_of_order_costs_no_call(transport: Transport) -> None:
    async with replicas(transport, 1) as [one]:
        names = Names(one.address)
        async with Channel(
            "router:80", transport=transport, balancing=QUICK, resolver=names
        ) as channel:
            assert await who(channel) == "0"
            names.error = OSError("out of order")
            asked = len(names.asked)
            async with asyncio.timeout(PATIENCE_S):
                while len(names.asked) < asked + 3:
                    assert await who(channel) == "0"
                    await asyncio.sleep(0.01)


async def test_the_wait_for_a_name_counts_against_the_deadline(transport: Transport) -> None:
    class Silent:
        async def resolve(self, _: str, __: int) -> Sequence[TcpAddress]:
            await asyncio.Event().wait()
            return []

    async with Channel("router:80", transport=transport, resolver=Silent()) as channel:
        for call in (
            channel.unary("/t.S/Who", b"", timeout_s=0.05),
            channel.bidi("/t.S/Talk", timeout_s=0.05).receive(),
        ):
            with pytest.raises(RpcError) as caught:
                await call
            assert caught.value.status is RpcStatus.DEADLINE_EXCEEDED


async def test_the_system_resolves_names(transport: Transport) -> None:
    async with replicas(transport, 1) as [one]:
        port = one.address.rpartition(":")[2]
        async with Channel(f"localhost:{port}", transport=transport) as channel:
            assert await who(channel) == "0"


async def test_several_connections_an_address_carry_calls(transport: Transport) -> None:
    rules = BalancingRules(connections_per_address=3)
    async with (
        replicas(transport, 1) as [one],
        Channel(one.address, transport=transport, balancing=rules) as channel,
    ):
        calls = [who(channel) for _ in range(30)]
        assert await asyncio.gather(*calls) == ["0"] * 30


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(lambda channel: channel.unary("/t.S/Who", b"", timeout_s=5), id="unary"),
        pytest.param(lambda channel: channel.bidi("/t.S/Talk").receive(), id="bidi"),
    ],
)
async def test_when_no_address_takes_a_connection_calls_fail_at_once(
    transport: Transport, begin: Callable[[Channel], asyncio.Future[bytes]]
) -> None:
    async with replicas(transport, 2) as servers:
        addresses = [one.address for one in servers]
    async with Channel(addresses, transport=transport) as channel:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(RpcError, match="|".join(addresses)) as caught:
                while True:
                    await begin(channel)
        assert caught.value.status is RpcStatus.UNAVAILABLE


async def test_calls_on_a_closed_channel_fail(transport: Transport) -> None:
    async with replicas(transport, 1) as [one]:
        channel = Channel(one.address, transport=transport)
        assert await who(channel) == "0"
        waiting = channel.bidi("/t.S/Talk")
        await channel.close()
        with pytest.raises(RpcError):
            await who(channel)
        with pytest.raises(RpcError):
            await waiting.receive()


async def test_nothing_is_kept_of_addresses_that_are_gone() -> None:
    async with replicas("wire", 2) as (one, other):
        names = Names(one.address)
        async with Channel(
            "router:80", transport="wire", balancing=QUICK, resolver=names
        ) as channel:
            for now in (one, other) * 3:
                names.addresses = [now.address]
                await all_answer(channel, {now.name})
            engine = channel._engine
            assert isinstance(engine, WireChannel)
            async with asyncio.timeout(PATIENCE_S):
                for protocol in engine.protocols[1:]:
                    await protocol.lost
            await asyncio.sleep(0)
            assert len(engine.protocols) == 1
            assert not engine._pool._left


async def test_of_many_reasons_the_first_few_are_told() -> None:
    async with replicas("wire", 5) as servers:
        addresses = [one.address for one in servers]
    async with Channel(addresses, transport="wire") as channel:
        with pytest.raises(RpcError, match="; and 2 more"):
            await who(channel)
