"""rpc_server.py and rpc_channel.py, over real loopback connections."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from grpc_health.v1 import health_pb2

from pointsman_common.clock import SystemClock
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.errors import BadRequestError, LayerUnavailableError, SettingsError
from pointsman_common.identity import description
from pointsman_common.rpc_address import RpcTransport
from pointsman_common.rpc_channel import HookChannel, RpcFailed, parse_addresses
from pointsman_common.rpc_server import DESCRIBE, HEALTH_CHECK, RpcServer, UnaryHandler
from pointsman_common.testing.waiting import until
from wire import RpcError, RpcStatus

HOOK = "/demo.v1.Demo/Say"


class Both:
    """The two ends of the calls."""

    transport: RpcTransport = "wire"


@pytest.fixture(params=["wire", "grpcio"], autouse=True)
def either_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Both, "transport", request.param)


class Replica:
    """One server of the hook that answers with its name."""

    def __init__(self, name: str = "a", hook: UnaryHandler | None = None) -> None:
        self.ready, self.calls, self.name = True, 0, name
        self.server = self._server(hook or self._say, "127.0.0.1:0")

    def _say(self, message: bytes) -> bytes:
        self.calls += 1
        return self.name.encode() + message

    def _server(self, hook: UnaryHandler, address: str) -> RpcServer:
        return RpcServer(
            address,
            {HOOK: hook},
            describe=lambda: description("router", f"router/{self.name}"),
            ready=lambda: self.ready,
            transport=Both.transport,
        )

    @property
    def url(self) -> str:
        return f"grpc://{self.server.bound[0]}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Replica"]:
        task = asyncio.create_task(self.server.run())
        await until(lambda: bool(self.server.bound))
        yield self
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def a_channel(*urls: str) -> AsyncIterator[HookChannel]:
    channel = HookChannel(",".join(urls), SystemClock(), transport=Both.transport)
    yield channel
    await channel.close()


async def unused_url() -> str:
    async with Replica().running() as replica:
        return replica.url


async def test_a_call_goes_there_and_back() -> None:
    async with Replica().running() as replica, a_channel(replica.url) as channel:
        assert await channel.call(HOOK, b"!", timeout_s=5) == b"a!"


async def test_a_server_may_listen_on_several_addresses_at_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    socket = tmp_path_factory.mktemp("s") / "s.sock"
    replica = Replica()
    replica.server = RpcServer(
        f"127.0.0.1:0, unix://{socket}",
        {HOOK: lambda message: message},
        describe=DescribeResponse,
        ready=lambda: True,
    )
    async with replica.running(), a_channel(f"unix://{socket}") as channel:
        assert len(replica.server.bound) == 2
        assert await channel.call(HOOK, b"!", timeout_s=5) == b"!"


async def test_a_replica_that_is_not_there_is_passed_over_and_then_avoided() -> None:
    nobody = await unused_url()
    async with Replica().running() as replica, a_channel(nobody, replica.url) as channel:
        for _ in range(6):
            assert await channel.call(HOOK, b"", timeout_s=5) == b"a"


async def test_calls_are_shared_among_the_replicas() -> None:
    async with (
        Replica("a").running() as one,
        Replica("b").running() as other,
        a_channel(one.url, other.url) as channel,
    ):
        for _ in range(10):
            await channel.call(HOOK, b"", timeout_s=5)
        assert (one.calls, other.calls) == (5, 5)


async def test_a_busy_replica_gets_no_more_while_another_is_idle() -> None:
    release = asyncio.Event()

    async def hang(_: bytes) -> bytes:
        await release.wait()
        return b"late"

    async with (
        Replica("a", hang).running() as busy,
        Replica("b").running() as idle,
        a_channel(busy.url, idle.url) as channel,
    ):
        first = [asyncio.create_task(channel.call(HOOK, b"", timeout_s=5)) for _ in range(2)]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(5):
            assert await channel.call(HOOK, b"", timeout_s=5) == b"b"
        release.set()
        assert set(await asyncio.gather(*first)) == {b"late", b"b"}


async def test_a_call_that_is_open_when_its_replica_stops_is_made_again_elsewhere() -> None:
    reached = asyncio.Event()

    async def hang(_: bytes) -> bytes:
        reached.set()
        await asyncio.Event().wait()
        return b""

    async with Replica("b").running() as other:
        async with Replica("a", hang).running() as stopping:
            async with a_channel(stopping.url) as warm:
                call = asyncio.create_task(warm.call(HOOK, b"", timeout_s=5))
                await reached.wait()
                call.cancel()
            channel = HookChannel(
                f"{stopping.url},{other.url}", SystemClock(), transport=Both.transport
            )
            reached.clear()
            calls = [asyncio.create_task(channel.call(HOOK, b"", timeout_s=5)) for _ in range(2)]
            await reached.wait()
            await stopping.server.drain(0)
            assert await asyncio.gather(*calls) == [b"b", b"b"]
        await channel.close()


async def test_a_lone_address_is_tried_twice_since_it_may_stand_for_several() -> None:
    calls = 0

    def first_no_then_yes(_: bytes) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RpcError(RpcStatus.UNAVAILABLE, "not here")
        return b"yes"

    async with (
        Replica("a", first_no_then_yes).running() as replica,
        a_channel(replica.url) as channel,
    ):
        assert await channel.call(HOOK, b"", timeout_s=5) == b"yes"


async def test_a_message_that_is_a_function_is_made_anew_for_each_try() -> None:
    heard: list[bytes] = []

    def first_no_then_yes(message: bytes) -> bytes:
        heard.append(message)
        if len(heard) == 1:
            raise RpcError(RpcStatus.UNAVAILABLE, "not here")
        return b"yes"

    made = iter((b"1", b"2"))
    async with (
        Replica("a", first_no_then_yes).running() as replica,
        a_channel(replica.url) as channel,
    ):
        await channel.call(HOOK, lambda: next(made), timeout_s=5)
    assert heard == [b"1", b"2"]


async def test_when_nobody_is_there_the_call_fails_at_once() -> None:
    nobody, none = await unused_url(), await unused_url()
    loop = asyncio.get_running_loop()
    async with a_channel(nobody, none) as channel:
        started = loop.time()
        with pytest.raises(RpcFailed) as caught:
            await channel.call(HOOK, b"", timeout_s=30)
        assert caught.value.status is RpcStatus.UNAVAILABLE
        assert loop.time() - started < 5


async def test_one_deadline_holds_for_all_tries() -> None:
    async def hang(_: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with Replica("a", hang).running() as replica, a_channel(replica.url) as channel:
        for timeout_s in (0.05, 0.0, -1.0):
            with pytest.raises(RpcFailed) as caught:
                await channel.call(HOOK, b"", timeout_s=timeout_s)
            assert caught.value.status is RpcStatus.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadRequestError("no"), RpcStatus.INVALID_ARGUMENT),
        (LayerUnavailableError("router", "gone"), RpcStatus.UNAVAILABLE),
        (RpcError(RpcStatus.FAILED_PRECONDITION, "no"), RpcStatus.FAILED_PRECONDITION),
        (ZeroDivisionError(), RpcStatus.UNKNOWN),
    ],
)
async def test_a_hooks_failure_reaches_the_caller_by_its_status(
    error: Exception, status: RpcStatus
) -> None:
    def plain(_: bytes) -> bytes:
        raise error

    async def coroutine(_: bytes) -> bytes:
        raise error

    hooks: list[Callable[[bytes], bytes] | UnaryHandler] = [plain, coroutine]
    for hook in hooks:
        async with Replica("a", hook).running() as replica, a_channel(replica.url) as channel:
            with pytest.raises(RpcFailed) as caught:
                await channel.call(HOOK, b"", timeout_s=5)
            assert caught.value.status is status


async def test_a_failure_that_is_not_of_reachability_is_not_tried_elsewhere() -> None:
    calls: list[str] = []

    def refuse(_: bytes) -> bytes:
        calls.append("a")
        raise RpcError(RpcStatus.INVALID_ARGUMENT)

    async with (
        Replica("a", refuse).running() as one,
        Replica("a", refuse).running() as other,
        a_channel(one.url, other.url) as channel,
    ):
        with pytest.raises(RpcFailed):
            await channel.call(HOOK, b"", timeout_s=5)
    assert calls == ["a"]


async def test_cancelling_the_caller_cancels_the_hook() -> None:
    reached, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_: bytes) -> bytes:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    async with Replica("a", hang).running() as replica, a_channel(replica.url) as channel:
        call = asyncio.create_task(channel.call(HOOK, b"", timeout_s=30))
        await asyncio.wait_for(reached.wait(), 5)
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_health_follows_readiness_and_liveness_does_not() -> None:
    kinds = health_pb2.HealthCheckResponse.ServingStatus

    async def health(service: str) -> int:
        asked = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        answer = await channel.call(HEALTH_CHECK, asked, timeout_s=5)
        return int(health_pb2.HealthCheckResponse.FromString(answer).status)

    async with Replica().running() as replica, a_channel(replica.url) as channel:
        assert await health("") == kinds.SERVING
        replica.ready = False
        assert await health("") == await health("readiness") == kinds.NOT_SERVING
        assert await health("liveness") == kinds.SERVING


async def test_every_layer_says_what_it_is() -> None:
    async with Replica().running() as replica, a_channel(replica.url) as channel:
        answer = DescribeResponse.FromString(await channel.call(DESCRIBE, b"", timeout_s=5))
    assert (answer.layer, answer.replica, answer.contract_version) == ("router", "router/a", "v1")


async def test_a_draining_server_lets_open_calls_end_and_takes_no_new_ones() -> None:
    reached, release = asyncio.Event(), asyncio.Event()

    async def hold(_: bytes) -> bytes:
        reached.set()
        await release.wait()
        return b"whole"

    async with Replica("a", hold).running() as replica, a_channel(replica.url) as channel:
        call = asyncio.create_task(channel.call(HOOK, b"", timeout_s=10))
        await reached.wait()
        drain = asyncio.create_task(replica.server.drain(10))
        async with a_channel(replica.url) as late:

            async def refused() -> bool:
                try:
                    await late.call(DESCRIBE, b"", timeout_s=1)
                except RpcFailed as error:
                    return error.status is RpcStatus.UNAVAILABLE
                return False

            async with asyncio.timeout(10):
                while not await refused():
                    pass
        release.set()
        assert await call == b"whole"
        await drain


async def test_a_taken_address_ends_the_part_with_an_os_error() -> None:
    async with Replica().running() as replica:
        second = Replica()
        second.server = RpcServer(
            replica.server.bound[0], {}, describe=DescribeResponse, ready=lambda: True
        )
        with pytest.raises(OSError, match="cannot listen"):
            await second.server.run()


def test_addresses_are_a_comma_list_each_taken_once() -> None:
    assert parse_addresses("grpc://a:1, unix:///run/b.sock ,grpc://a:1/") == [
        "a:1",
        "unix:///run/b.sock",
    ]


@pytest.mark.parametrize(
    "url", ["", "http://a:1", "a:1", "unix://relative", "grpc://a", "grpc://a:b", "grpc://a:1,"]
)
async def test_what_is_no_address_is_refused_by_the_name_of_its_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="neither"):
        parse_addresses(url)
    with pytest.raises(SettingsError, match=r"^datalayer_url: "):
        HookChannel(url, SystemClock(), key="datalayer_url")


async def test_a_server_of_a_malformed_address_is_refused_before_it_starts() -> None:
    with pytest.raises(SettingsError, match=r"^listen_address: "):
        RpcServer("0.0.0.0", {}, describe=DescribeResponse, ready=lambda: True)
