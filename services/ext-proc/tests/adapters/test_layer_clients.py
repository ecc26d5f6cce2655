import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import httpx
import msgspec
import pytest
from google.protobuf.message import Message

from pointsman_common.clock import SystemClock
from pointsman_common.contracts import flow_pb2, routing_pb2, scheduling_pb2
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.errors import LayerFailedError, LayerUnavailableError, SettingsError
from pointsman_common.testing.builders import a_descriptor
from pointsman_common.testing.virtual_clock import VirtualClock, settle
from pointsman_ext_proc.adapters.layer_clients import (
    CANDIDATES,
    CapabilityWatch,
    GrpcTransport,
    HttpTransport,
    LayerClients,
    LayerTimeoutError,
    Question,
    transport_for,
)
from pointsman_ext_proc.core.layer_sequence import Call, Hop
from wire import RpcError, RpcStatus, Server

ADMITTED = flow_pb2.AdmitResponse(admitted=flow_pb2.Admitted(queued_ms=5))
PICK = scheduling_pb2.PickRequest(
    descriptor=a_descriptor(block_hashes=[2**64 - 1]), lease_id="lease-1"
)
PICKED = scheduling_pb2.PickResponse(
    picked=scheduling_pb2.Picked(
        endpoints=[scheduling_pb2.PickedEndpoint(address="10.0.0.1:8000")], scores={"a": 0.5}
    )
)


class Scripted:
    """A transport that plays a list of outcomes, then the last one again and again."""

    def __init__(self, *outcomes: Message | Exception, takes_s: float = 0.0) -> None:
        self.outcomes, self.calls, self.takes_s = list(outcomes), 0, takes_s
        self.clock: VirtualClock | None = None
        self.takes: list[float] = []
        """Of the next calls, in place of `takes_s`."""
        self.timeouts: list[float] = []
        self.ages_ms: list[int] = []
        """Of the admissions asked for."""

    async def call(self, hop: Hop, question: Question, *, timeout_s: float) -> Message:
        self.calls += 1
        message = question()
        if isinstance(message, flow_pb2.AdmitRequest):
            self.ages_ms.append(message.age_ms)
        self.timeouts.append(timeout_s)
        takes_s = self.takes.pop(0) if self.takes else self.takes_s
        if takes_s and self.clock is not None:
            await self.clock.sleep(takes_s)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def describe(self) -> DescribeResponse | None:
        return None

    async def close(self) -> None:
        self.outcomes.clear()


def clients(
    transport: Scripted, clock: VirtualClock, *, hop: Hop = Hop.ADMIT, **extra: Any
) -> LayerClients:
    transport.clock = clock
    values: dict[str, Any] = {
        "circuit_failures": 3,
        "circuit_open_s": 1.0,
        "admit_retry_s": 2.0,
        "rng": Random(1),
    }
    return LayerClients({hop: transport}, clock, **(values | extra))


def away() -> LayerUnavailableError:
    return LayerUnavailableError("flow-controller", "gone")


def an_admit(*, age_ms: int = 0) -> Call:
    return Call(Hop.ADMIT, flow_pb2.AdmitRequest(age_ms=age_ms), 65.0)


async def finished_within(clock: VirtualClock, work: Any, seconds: float) -> Any:
    task = asyncio.ensure_future(work)
    await clock.advance(seconds)
    assert task.done()
    return await task


async def test_a_queued_request_outlives_its_flow_controller() -> None:
    clock = VirtualClock()
    transport = Scripted(away(), away(), away(), ADMITTED)
    reply = await finished_within(clock, clients(transport, clock).call(an_admit()), 2.0)
    assert reply == ADMITTED
    assert transport.calls == 4
    # Each attempt has what is left of the hop's deadline.
    assert transport.timeouts == sorted(transport.timeouts, reverse=True)


async def test_a_request_that_is_asked_again_is_as_old_as_it_is() -> None:
    clock = VirtualClock()
    transport = Scripted(away(), away(), ADMITTED, takes_s=20.0)
    reply = await finished_within(clock, clients(transport, clock).call(an_admit(age_ms=7)), 90.0)
    assert reply == ADMITTED
    first, second, third = transport.ages_ms
    assert first == 7
    # A wait of twenty seconds each, and a short one before it is asked again.
    assert 20_007 <= second < 20_300
    assert 40_007 <= third < 40_600


async def test_a_request_gives_up_when_every_flow_controller_stays_away() -> None:
    clock = VirtualClock()
    transport = Scripted(away())
    with pytest.raises(LayerUnavailableError):
        await finished_within(clock, clients(transport, clock).call(an_admit()), 2.0)
    assert 5 < transport.calls < 50


async def test_a_long_wait_that_breaks_begins_the_retries_anew() -> None:
    clock = VirtualClock()
    transport = Scripted(away(), away(), away(), ADMITTED, takes_s=20.0)
    reply = await finished_within(clock, clients(transport, clock).call(an_admit()), 90.0)
    assert reply == ADMITTED


async def test_failing_open_a_request_that_nobody_takes_does_not_wait() -> None:
    clock, hops = VirtualClock(), list[str]()
    transport = Scripted(away(), takes_s=0.05)
    layers = clients(
        transport,
        clock,
        admit_fails_open=True,
        on_hop=lambda _, __, outcome: hops.append(outcome),
    )
    for _ in range(4):
        with pytest.raises(LayerUnavailableError):
            await finished_within(clock, layers.call(an_admit()), 0.2)
    assert transport.calls == 3
    assert hops == ["unavailable"] * 3 + ["circuit-open"]


async def test_failing_open_too_a_queued_request_outlives_its_flow_controller() -> None:
    clock = VirtualClock()
    transport = Scripted(away(), away(), away(), ADMITTED)
    layers = clients(transport, clock, admit_fails_open=True)
    transport.takes = [10.0]
    reply = await finished_within(clock, layers.call(an_admit()), 12.0)
    assert reply == ADMITTED
    assert transport.calls == 4


async def test_callers_that_go_while_a_layer_is_away_open_its_circuit() -> None:
    clock, hops = VirtualClock(), list[str]()
    transport = Scripted(away())
    layers = clients(transport, clock, on_hop=lambda _, __, outcome: hops.append(outcome))
    for _ in range(3):
        task = asyncio.create_task(layers.call(an_admit()))
        await clock.advance(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert layers.circuits[Hop.ADMIT].is_open
    assert hops == ["unavailable"] * 3


async def test_other_hops_do_not_wait_for_a_layer_that_is_gone() -> None:
    clock = VirtualClock()
    transport = Scripted(away())
    with pytest.raises(LayerUnavailableError):
        await clients(transport, clock, hop=Hop.PICK).call(Call(Hop.PICK, PICK, 1.0))
    assert transport.calls == 1


@pytest.mark.parametrize("error", [away(), LayerTimeoutError("scheduler", "slow")])
async def test_a_layer_that_keeps_failing_is_not_asked_for_a_while(error: Exception) -> None:
    clock, hops = VirtualClock(), list[str]()
    transport = Scripted(error, error, error, PICKED)
    layers = clients(
        transport, clock, hop=Hop.PICK, on_hop=lambda _, __, outcome: hops.append(outcome)
    )
    call = Call(Hop.PICK, PICK, 1.0)
    for _ in range(5):
        with pytest.raises(LayerUnavailableError):
            await layers.call(call)
    assert transport.calls == 3
    assert hops[3:] == ["circuit-open"] * 2
    await clock.advance(1.0)
    assert await layers.call(call) == PICKED
    assert hops[-1] == "ok"
    assert not layers.circuits[Hop.PICK].is_open


async def test_errors_that_a_layer_answers_with_do_not_open_its_circuit() -> None:
    clock = VirtualClock()
    transport = Scripted(LayerFailedError("scheduler", "INTERNAL"))
    layers = clients(transport, clock, hop=Hop.PICK)
    for _ in range(10):
        with pytest.raises(LayerFailedError):
            await layers.call(Call(Hop.PICK, PICK, 1.0))
    assert transport.calls == 10


async def test_a_caller_that_goes_is_no_failure_of_the_layer() -> None:
    clock, hops = VirtualClock(), list[str]()
    transport = Scripted(ADMITTED, takes_s=10.0)
    layers = clients(transport, clock, on_hop=lambda _, __, outcome: hops.append(outcome))
    task = asyncio.create_task(layers.call(an_admit()))
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert hops == ["cancelled"]


# --- gRPC, for real ---


async def serving(folder: Any, pick: Callable[[bytes], Any]) -> tuple[Server, str]:
    server, url = Server(), f"unix://{folder}/s.sock"
    server.unary("/pointsman.scheduling.v1.Scheduler/Pick", pick)
    await server.listen(url)
    return server, url


async def test_a_hook_is_called_over_grpc(folder: Any) -> None:
    seen: list[bytes] = []

    def pick(message: bytes) -> bytes:
        seen.append(message)
        return PICKED.SerializeToString()

    server, url = await serving(folder, pick)
    transport = transport_for(url, SystemClock(), key="scheduler_url")
    assert await transport.call(Hop.PICK, lambda: PICK, timeout_s=5.0) == PICKED
    assert scheduling_pb2.PickRequest.FromString(seen[0]) == PICK
    await transport.close()
    await server.drain(0)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (RpcStatus.UNAVAILABLE, LayerUnavailableError),
        (RpcStatus.DEADLINE_EXCEEDED, LayerTimeoutError),
        (RpcStatus.INTERNAL, LayerFailedError),
        (RpcStatus.UNIMPLEMENTED, LayerFailedError),
    ],
)
async def test_statuses_of_grpc_become_errors_by_name(
    folder: Any, status: RpcStatus, kind: type[Exception]
) -> None:
    def pick(_: bytes) -> bytes:
        raise RpcError(status, "so it is")

    server, url = await serving(folder, pick)
    transport = transport_for(url, SystemClock(), key="scheduler_url")
    with pytest.raises(kind, match="scheduler"):
        await transport.call(Hop.PICK, lambda: PICK, timeout_s=5.0)
    await transport.close()
    await server.drain(0)


async def test_an_unreadable_answer_is_a_failure_of_the_layer(folder: Any) -> None:
    server, url = await serving(folder, lambda _: b"\xff\xff\xff")
    transport = transport_for(url, SystemClock(), key="scheduler_url")
    with pytest.raises(LayerFailedError, match="cannot be read"):
        await transport.call(Hop.PICK, lambda: PICK, timeout_s=5.0)
    await transport.close()
    await server.drain(0)


# --- JSON over HTTP ---


def over_http(answer: Callable[[httpx.Request], Any], *urls: str) -> HttpTransport:
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), timeout=None)  # noqa: S113
    return HttpTransport(urls or ("http://one:81/",), client)


async def test_a_hook_is_called_as_json_over_http() -> None:
    seen: list[tuple[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((str(request.url), msgspec.json.decode(request.content)))
        picked = {"picked": {"endpoints": [{"address": "10.0.0.1:8000"}], "made_up_field": 1}}
        return httpx.Response(200, json=picked)

    reply = await over_http(answer).call(Hop.PICK, lambda: PICK, timeout_s=5.0)
    assert isinstance(reply, scheduling_pb2.PickResponse)
    assert reply.picked.endpoints[0].address == "10.0.0.1:8000"
    url, body = seen[0]
    assert url == "http://one:81/v1/pick"
    assert body["lease_id"] == "lease-1"
    assert body["descriptor"]["target_model"] == "llama"
    assert body["descriptor"]["prompt_block_hashes"] == "//////////8="


async def test_bodies_travel_as_base64_both_ways() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        body = msgspec.json.decode(request.content)["body"]
        patch = {"replacement": body}
        descriptor = {"request_id": "r1"}
        return httpx.Response(200, json={"routed": {"descriptor": descriptor, "body_patch": patch}})

    asked = routing_pb2.RouteRequest(body=b"\x00\xff{}")
    reply = await over_http(answer).call(Hop.ROUTE, lambda: asked, timeout_s=5.0)
    assert isinstance(reply, routing_pb2.RouteResponse)
    assert reply.routed.body_patch.replacement == b"\x00\xff{}"


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (500, b"{}", LayerFailedError),
        (404, b"{}", LayerFailedError),
        (503, b"{}", LayerUnavailableError),
        (200, b"not json", LayerFailedError),
        (200, b"[1]", LayerFailedError),
        (200, b"3", LayerFailedError),
        (200, b'{"picked":5}', LayerFailedError),
    ],
)
async def test_bad_answers_over_http_are_errors_by_name(
    status: int, content: bytes, kind: type[Exception]
) -> None:
    transport = over_http(lambda _: httpx.Response(status, content=content))
    with pytest.raises(kind, match="scheduler"):
        await transport.call(Hop.PICK, lambda: PICK, timeout_s=5.0)


async def test_over_http_too_the_next_replica_is_tried_and_the_deadline_holds() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "one":
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json={"picked": {}})

    transport = over_http(answer, "http://one:1", "http://two:2")
    for _ in range(3):
        await transport.call(Hop.PICK, lambda: PICK, timeout_s=5.0)

    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(LayerTimeoutError):
        await over_http(never).call(Hop.PICK, lambda: PICK, timeout_s=0.01)
    with pytest.raises(LayerUnavailableError, match="refused"):
        await over_http(answer, "http://one:1").call(Hop.PICK, lambda: PICK, timeout_s=5.0)


async def test_the_scheme_of_the_url_chooses_the_transport() -> None:
    clock = SystemClock()
    http = transport_for("http://a:1, https://b:2", clock, key="router_url")
    grpc = transport_for("grpc://a:1,unix:///run/b.sock", clock, key="router_url")
    assert isinstance(http, HttpTransport)
    assert isinstance(grpc, GrpcTransport)
    for transport in (http, grpc):
        await transport.close()
    for url in ("ftp://a", "http://a:1,grpc://b:2", ""):
        with pytest.raises(SettingsError, match="router_url"):
            transport_for(url, clock, key="router_url")


async def test_candidates_go_to_http_layers_and_to_those_that_say_so(folder: Any) -> None:
    server = Server()
    description = DescribeResponse(capabilities=[CANDIDATES])
    server.unary("/pointsman.layer.v1.Layer/Describe", lambda _: description.SerializeToString())
    url = f"unix://{folder}/d.sock"
    clock = SystemClock()
    watches = [
        CapabilityWatch(transport, VirtualClock())
        for transport in (
            transport_for(url, clock, key="x"),
            over_http(lambda _: httpx.Response(404)),
        )
    ]
    assert not any(watch.has(CANDIDATES) for watch in watches)
    await server.listen(url)
    tasks = [asyncio.create_task(watch.run()) for watch in watches]
    async with asyncio.timeout(5):
        while not all(watch.has(CANDIDATES) for watch in watches):
            await settle(1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.drain(0)
