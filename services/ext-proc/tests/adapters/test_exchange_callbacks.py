"""ExchangeStream without a connection: what waits, for what, and how much of it."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from pointsman_ext_proc.adapters import exchange_stream
from pointsman_ext_proc.adapters.exchange_stream import MOST_KEPT_BYTES, ExchangeStream
from wire import RpcStatus

CHUNK = 60_000


class Gateway:
    """The transport of one stream; takes all that is sent unless it is `slow`."""

    def __init__(self, edge: Any) -> None:
        self.sent: list[Any] = []
        self.ends: list[RpcStatus] = []
        self.unsent_bytes, self.slow, self.overs = 0, False, 0
        self.stream = ExchangeStream(edge.edge.exchanges, self._over)
        self.stream.attach(cast(Any, self))
        self.stream.on_open()

    def _over(self) -> None:
        self.overs += 1

    def send_message(self, message: bytes) -> None:
        self.send_messages([message])

    def send_messages(self, messages: Sequence[bytes]) -> None:
        self.sent += [pb.ProcessingResponse.FromString(message) for message in messages]
        if self.slow:
            self.unsent_bytes += sum(map(len, messages))

    def finish(self, status: RpcStatus = RpcStatus.OK, message: str = "") -> None:
        self.ends.append(status)

    def kinds(self) -> list[str | None]:
        return [message.WhichOneof("response") for message in self.sent]

    def say(self, **fields: Any) -> None:
        self.stream.on_message(pb.ProcessingRequest(**fields).SerializeToString())

    def request(self) -> None:
        self.say(request_headers=pb.HttpHeaders())
        self.say(request_body=pb.HttpBody(body=b"{}", end_of_stream=True))

    def answer_chunk(self, size: int = CHUNK) -> None:
        self.say(response_body=pb.HttpBody(body=bytes(size)))

    async def routed(self, edge: Any) -> None:
        self.request()
        await edge.until(lambda: len(self.sent) == 2)
        self.say(response_headers=pb.HttpHeaders())


@pytest.fixture
async def edge(start_edge: Any) -> Any:
    return await start_edge()


@pytest.fixture
async def gateway(edge: Any) -> Gateway:
    return Gateway(edge)


async def test_what_comes_while_the_layers_are_asked_is_handled_after_they_answered(
    edge: Any, gateway: Gateway
) -> None:
    release = asyncio.Event()

    async def slow_route(request: Any) -> Any:
        await release.wait()
        return edge.layers.routed(request)

    edge.layers.route = slow_route
    gateway.request()
    await edge.until(lambda: edge.layers.routes)
    gateway.say(response_headers=pb.HttpHeaders())
    gateway.stream.on_end()
    assert gateway.sent == []
    assert gateway.ends == []
    release.set()
    await edge.until(lambda: gateway.ends)
    assert gateway.kinds() == ["request_headers", "request_body", "response_headers"]
    assert gateway.ends == [RpcStatus.OK]
    assert gateway.overs == 1
    assert not edge.edge.exchanges.tasks


async def test_a_reset_while_the_layers_are_asked_stops_asking(edge: Any, gateway: Gateway) -> None:
    async def never(_: Any) -> Any:
        await asyncio.Event().wait()

    edge.layers.admit = never
    gateway.request()
    await edge.until(lambda: edge.layers.admits)
    gateway.stream.on_reset()
    gateway.stream.on_reset()
    await edge.until(lambda: not edge.edge.exchanges.tasks)
    await edge.until(lambda: edge.told("finished"))
    assert [event.cause for event in edge.told("finished")] == ["client-gone"]
    assert gateway.overs == 1
    assert gateway.sent == []


async def test_a_gateway_that_does_not_take_replies_gets_no_more_until_it_does(
    edge: Any, gateway: Gateway
) -> None:
    await gateway.routed(edge)
    gateway.slow = True
    for _ in range(40):
        gateway.answer_chunk()
    held_back = len(gateway.sent)
    assert held_back < 3 + 40
    assert gateway.unsent_bytes <= exchange_stream.MOST_UNSENT_BYTES + CHUNK + 100
    gateway.slow, gateway.unsent_bytes = False, 0
    gateway.stream.on_sent()
    assert len(gateway.sent) == 3 + 40
    gateway.stream.on_end()
    assert gateway.ends == [RpcStatus.OK]


async def test_a_half_close_behind_kept_messages_waits_for_them(
    edge: Any, gateway: Gateway
) -> None:
    await gateway.routed(edge)
    gateway.slow = True
    for _ in range(40):
        gateway.answer_chunk()
    gateway.say(response_body=pb.HttpBody(body=b"", end_of_stream=True))
    gateway.stream.on_end()
    assert gateway.ends == []
    gateway.slow, gateway.unsent_bytes = False, 0
    gateway.stream.on_sent()
    assert gateway.ends == [RpcStatus.OK]
    await edge.until(lambda: edge.told("finished"))
    assert [event.cause for event in edge.told("finished")] == ["finished"]


async def test_what_is_kept_has_a_bound(edge: Any, gateway: Gateway) -> None:
    await gateway.routed(edge)
    gateway.slow = True
    size = 4 << 20
    for _ in range(MOST_KEPT_BYTES // size + 3):
        gateway.answer_chunk(size)
    assert gateway.ends == [RpcStatus.RESOURCE_EXHAUSTED]
    assert gateway.overs == 1
    await edge.until(lambda: edge.told("finished"))
    assert [event.cause for event in edge.told("finished")] == ["client-gone"]
