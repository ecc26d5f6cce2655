"""What any edge must pass: Envoy's ext_proc over gRPC, and the leases that it tells of on the bus.

`EXT_PROC_UNDER_TEST=host:port` names an edge whose layers work, whose pool has at least one ready
endpoint, and which passes requests for the model `llama` on as they are; its body limit is over
1 MB. With `BUS_URL` (and `POOL`, `default/llama` unless told) its leases are asked for too. Without
it the reference edge is started, with layers that this file serves and a bus of its own.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from envoy.extensions.filters.http.ext_proc.v3 import processing_mode_pb2
from grpc_health.v1 import health_pb2
from support.ext_proc_client import (
    DESTINATION,
    OVERWRITE,
    Gateway,
    GatewayStream,
    Reply,
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
)
from support.fake_datalayer import FakeDatalayer, pool_state
from support.polling import await_until
from support.ports import free_port
from support.processes import Process

from pointsman_common import subjects
from pointsman_common.clock import SystemClock
from pointsman_common.contracts import events_pb2, flow_pb2, routing_pb2, scheduling_pb2
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.error_mapping import rejection
from pointsman_common.inference_pool import InferencePool
from pointsman_common.nats_bus import NatsBus
from pointsman_common.testing.builders import POOL, an_endpoint
from wire import Channel, Server

# One event loop for the whole file: the layers are served on it.
pytestmark = pytest.mark.asyncio(loop_scope="module")

MODES = processing_mode_pb2.ProcessingMode.BodySendMode
MAX_PIECE_BYTES = 62_000
DROPPED_REASON = "x-llm-d-request-dropped-reason"
UNREADABLE = "unreadable-body"
HEALTH_NAMES = (
    "",
    "liveness",
    "readiness",
    "inference-extension",
    "envoy.service.ext_proc.v3.ExternalProcessor",
)
ENDPOINT = an_endpoint(1)


def a_body(prompt: str = "hi") -> bytes:
    return json.dumps({"model": "llama", "prompt": prompt}, separators=(",", ":")).encode()


class Layers:
    """A router that reads the body, a flow controller that admits, a scheduler that picks the one
    endpoint there is."""

    def __init__(self) -> None:
        self._server = Server(max_message_bytes=64 << 20)
        self._server.unary("/pointsman.routing.v1.Router/Route", self._route)
        self._server.unary("/pointsman.flow.v1.FlowController/Admit", self._admit)
        self._server.unary("/pointsman.scheduling.v1.Scheduler/Pick", self._pick)

    async def start(self) -> str:
        [address] = await self._server.listen("127.0.0.1:0")
        return f"grpc://{address}"

    async def stop(self) -> None:
        await self._server.drain(0)

    def _route(self, message: bytes) -> bytes:
        asked = routing_pb2.RouteRequest.FromString(message)
        reply = routing_pb2.RouteResponse()
        try:
            model = "" if asked.bodiless else json.loads(asked.body)["model"]
        except ValueError:
            why = rejection("BadRequest", "the body is not JSON", reason=UNREADABLE)
            reply.rejection.CopyFrom(why)
            return reply.SerializeToString()
        descriptor = reply.routed.descriptor
        descriptor.request_id, descriptor.pool = asked.request_id, asked.pool
        descriptor.model = descriptor.target_model = model
        descriptor.fairness_id = "default-flow"
        return reply.SerializeToString()

    def _admit(self, _: bytes) -> bytes:
        return flow_pb2.AdmitResponse(
            admitted=flow_pb2.Admitted(), outcome=flow_pb2.OUTCOME_DISPATCHED
        ).SerializeToString()

    def _pick(self, _: bytes) -> bytes:
        picked = scheduling_pb2.PickedEndpoint(uid=ENDPOINT.uid, address=ENDPOINT.address)
        return scheduling_pb2.PickResponse(
            picked=scheduling_pb2.Picked(endpoints=[picked])
        ).SerializeToString()


@dataclass(frozen=True)
class Edge:
    address: str
    bus_url: str
    pool: str
    is_ours: bool


@pytest.fixture(scope="module")
def bus_url(under_test: Callable[[str], str | None], request: pytest.FixtureRequest) -> str:
    if under_test("ext-proc"):
        return os.environ.get("BUS_URL", "")
    url: str = request.getfixturevalue("nats_url")
    return url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(
    under_test: Callable[[str], str | None],
    start_service: Callable[[str, Mapping[str, str]], Process],
    fake_datalayer: Callable[..., FakeDatalayer],
    wait_ready: Callable[[Process, str], None],
    bus_url: str,
) -> AsyncIterator[Edge]:
    given = under_test("ext-proc")
    if given is not None:
        yield Edge(given, bus_url, os.environ.get("POOL", POOL), is_ours=False)
        return
    layers = Layers()
    url = await layers.start()
    listen, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    service = start_service(
        "pointsman_ext_proc",
        {
            "EXT_PROC_POOL": POOL,
            "EXT_PROC_LISTEN_ADDRESS": listen,
            "EXT_PROC_HEALTH_ADDRESS": f"127.0.0.1:{free_port()}",
            "EXT_PROC_ADMIN_ADDRESS": admin,
            "EXT_PROC_BUS_URL": bus_url,
            "EXT_PROC_DATALAYER_URL": fake_datalayer(
                pool_state(InferencePool(name=POOL, hash="h1"), ENDPOINT)
            ).url,
            "EXT_PROC_ROUTER_URL": url,
            "EXT_PROC_FLOW_CONTROLLER_URL": url,
            "EXT_PROC_SCHEDULER_URL": url,
            "EXT_PROC_DRAIN_S": "1",
        },
    )
    await asyncio.to_thread(wait_ready, service, f"http://{admin}")
    yield Edge(listen, bus_url, POOL, is_ours=True)
    await layers.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(edge: Edge) -> AsyncIterator[Gateway]:
    opened = Gateway(edge.address)
    yield opened
    await opened.close()


def with_modes(headers: Any, *, request: str = "FULL_DUPLEX_STREAMED", response: str) -> Any:
    """As a gateway's first message: it tells how bodies will come."""
    headers.protocol_config.request_body_mode = MODES.Value(request)
    headers.protocol_config.response_body_mode = MODES.Value(response)
    return headers


def is_routed(reply: Reply, edge: Edge) -> None:
    """The destination is the first header set, and the metadata says the same."""
    assert reply.status == 0, reply.text
    name, destination = reply.set_headers[0]
    assert name == DESTINATION
    if edge.is_ours:
        assert destination == ENDPOINT.address
    assert all(":" in address for address in destination.split(","))
    assert reply.metadata[DESTINATION] == destination
    assert reply.header_reply.clear_route_cache


def has_whole_pieces(reply: Reply, body: bytes) -> None:
    assert reply.body == body
    assert all(len(piece.body) <= MAX_PIECE_BYTES for piece in reply.body_pieces)
    assert [piece.end_of_stream for piece in reply.body_pieces][-1]
    assert not any(piece.end_of_stream for piece in reply.body_pieces[:-1])


# --- requests ---


@pytest.mark.parametrize("size", [10, MAX_PIECE_BYTES, 300_000])
async def test_a_body_in_one_chunk_is_routed_and_comes_back_exactly(
    edge: Edge, gateway: Gateway, size: int
) -> None:
    body = a_body("x" * size)
    reply = await gateway.ask(request_headers(), request_body(body, end=True))
    is_routed(reply, edge)
    has_whole_pieces(reply, body)
    assert reply.header("content-length") == str(len(body))


async def test_nothing_is_answered_before_the_last_chunk_and_then_the_headers_come_first(
    edge: Edge, gateway: Gateway
) -> None:
    body = a_body("y" * 150_000)
    stream = gateway.open()
    await stream.send(request_headers(), request_body(body[:70_000], end=False))
    await stream.send(request_body(body[70_000:], end=False))
    answer = asyncio.create_task(stream.reply())
    await asyncio.wait([answer], timeout=0.3)
    assert not answer.done()
    await stream.send(request_body(b"", end=True))
    reply = await answer
    assert reply.messages[0].WhichOneof("response") == "request_headers"
    is_routed(reply, edge)
    has_whole_pieces(reply, body)
    await stream.done()


async def test_a_request_without_a_body_is_answered_on_its_headers(
    edge: Edge, gateway: Gateway
) -> None:
    reply = await gateway.get("/v1/models")
    is_routed(reply, edge)
    assert reply.body_pieces == []


async def test_a_buffered_body_is_answered_by_one_message_with_the_decision(
    edge: Edge, gateway: Gateway
) -> None:
    stream = gateway.open()
    await stream.send(with_modes(request_headers(), request="BUFFERED", response="BUFFERED"))
    first = await stream.receive()
    assert first.WhichOneof("response") == "request_headers"
    assert not first.request_headers.response.header_mutation.set_headers
    await stream.send(request_body(a_body(), end=True))
    second = await stream.receive()
    common = second.request_body.response
    assert common.header_mutation.set_headers[0].header.key == DESTINATION
    destination = common.header_mutation.set_headers[0].header.raw_value.decode()
    assert Reply([second]).metadata[DESTINATION] == destination
    assert not common.HasField("body_mutation") or common.body_mutation.body == a_body()
    await stream.done()


async def test_trailers_end_a_body_whose_chunks_did_not(edge: Edge, gateway: Gateway) -> None:
    body = a_body()
    stream = gateway.open()
    await stream.send(request_headers(), request_body(body, end=False), request_trailers())
    reply = Reply()
    while True:
        message = await stream.receive()
        if message.WhichOneof("response") == "request_trailers":
            break
        reply.messages.append(message)
    is_routed(reply, edge)
    assert reply.body == body
    assert not any(piece.end_of_stream for piece in reply.body_pieces)
    # Chunked, for trailers follow: a length beside them would be an invalid message.
    assert reply.header("content-length") is None
    await stream.done()


async def test_what_a_layer_refuses_is_the_answer_with_its_status_and_reason(
    edge: Edge, gateway: Gateway
) -> None:
    stream = gateway.open()
    await stream.send(request_headers(), request_body(b'{"model":"llama",', end=True))
    reply = await stream.reply()
    assert reply.status == 400
    assert reply.text
    assert len(reply.messages) == 1
    if edge.is_ours:
        assert reply.immediate_header(DROPPED_REASON) == UNREADABLE
        assert "the body is not JSON" in reply.text
    assert await stream.receive() is None


@pytest.mark.parametrize("as_value", [False, True])
async def test_a_destination_that_the_client_sent_does_not_survive(
    edge: Edge, gateway: Gateway, as_value: bool
) -> None:
    forged = {
        DESTINATION: "10.9.9.9:1",
        "x-gateway-destination-endpoint-subset": "10.9.9.9:1",
        "x-gateway-destination-endpoint-served": "10.9.9.9:1",
    }
    headers = request_headers(forged, as_value=as_value)
    reply = await gateway.ask(headers, request_body(a_body(), end=True))
    is_routed(reply, edge)
    overwritten = {
        option.header.key
        for option in reply.header_reply.header_mutation.set_headers
        if option.append_action == OVERWRITE
    }
    assert forged.keys() <= overwritten | reply.removed
    assert DESTINATION not in reply.removed
    assert "10.9.9.9:1" not in [value for _, value in reply.set_headers]


# --- answers ---


async def routed(gateway: Gateway, **modes: str) -> GatewayStream:
    """A stream whose request has gone, and whose answer begins."""
    stream = gateway.open()
    await stream.send(with_modes(request_headers(), **modes), request_body(a_body(), end=True))
    await stream.reply()
    await stream.send(response_headers({"content-type": "text/event-stream"}))
    assert (await stream.receive()).WhichOneof("response") == "response_headers"
    return stream


async def test_in_full_duplex_each_chunk_comes_back_at_once(gateway: Gateway) -> None:
    stream = await routed(gateway, response="FULL_DUPLEX_STREAMED")
    for number in range(20):
        chunk = b"data: %d\n\n" % number
        await stream.send(response_body(chunk, end=False))
        piece = (await stream.receive()).response_body.response.body_mutation.streamed_response
        assert (piece.body, piece.end_of_stream) == (chunk, False)
    await stream.send(response_body(b"data: [DONE]\n\n", end=True))
    last = (await stream.receive()).response_body.response.body_mutation.streamed_response
    assert (last.body, last.end_of_stream) == (b"data: [DONE]\n\n", True)
    await stream.done()
    assert await stream.receive() is None


async def test_in_full_duplex_a_long_chunk_comes_back_in_pieces(gateway: Gateway) -> None:
    stream = await routed(gateway, response="FULL_DUPLEX_STREAMED")
    chunk = b"data: " + b"z" * 150_000 + b"\n\n"
    await stream.send(response_body(chunk, end=True))
    came = b""
    while True:
        message = await stream.receive()
        piece = message.response_body.response.body_mutation.streamed_response
        assert len(piece.body) <= MAX_PIECE_BYTES
        came += piece.body
        if piece.end_of_stream:
            break
    assert came == chunk
    await stream.done()


async def test_in_streamed_mode_each_chunk_is_told_to_go_on_unless_the_edge_has_left(
    gateway: Gateway,
) -> None:
    stream = await routed(gateway, response="STREAMED")
    for number in range(5):
        answer = asyncio.create_task(stream.receive())
        # An edge that learns the end elsewhere leaves after the first chunk and lets the rest pass.
        await asyncio.wait([answer], timeout=0.2)
        if number > 0 and answer.done() and answer.result() is None:
            return
        await stream.send(response_body(b"data: %d\n\n" % number, end=number == 4))
        message = await answer
        assert message.WhichOneof("response") == "response_body"
        assert not message.response_body.response.HasField("body_mutation")
    await stream.done()
    assert await stream.receive() is None


# --- health, many streams, leases ---


@pytest.mark.parametrize("service", HEALTH_NAMES)
async def test_health_is_served_by_every_name_that_a_gateway_asks_for(
    edge: Edge, service: str
) -> None:
    async with Channel(edge.address) as channel:
        asked = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        reply = await channel.unary("/grpc.health.v1.Health/Check", asked, timeout_s=5.0)
    status = health_pb2.HealthCheckResponse.FromString(reply).status
    assert status == health_pb2.HealthCheckResponse.SERVING


async def test_it_says_what_it_is(edge: Edge) -> None:
    async with Channel(edge.address) as channel:
        reply = await channel.unary("/pointsman.layer.v1.Layer/Describe", b"", timeout_s=5.0)
    described = DescribeResponse.FromString(reply)
    assert (described.layer, described.contract_version) == ("ext-proc", "v1")


async def test_a_hundred_interleaved_streams_keep_their_own_bodies(
    edge: Edge, gateway: Gateway
) -> None:
    bodies = [a_body(f"prompt {number} " * (number + 1)) for number in range(100)]
    streams = [gateway.open() for _ in bodies]
    for number, stream in enumerate(streams):
        await stream.send(request_headers(request_id=f"many-{number}"))
    for stream, body in zip(streams, bodies, strict=True):
        await stream.send(request_body(body[:20], end=False))
    for stream, body in reversed(list(zip(streams, bodies, strict=True))):
        await stream.send(request_body(body[20:], end=True))
    replies = await asyncio.gather(*(stream.reply(timeout_s=30) for stream in streams))
    for reply, body in zip(replies, bodies, strict=True):
        is_routed(reply, edge)
        assert reply.body == body
    for stream in streams:
        await stream.done()


@pytest_asyncio.fixture(loop_scope="module")
async def bus(edge: Edge) -> AsyncIterator[NatsBus]:
    if not edge.bus_url:
        pytest.skip("BUS_URL names no bus")
    connected = NatsBus(edge.bus_url, SystemClock(), name="edge-contract")
    task = asyncio.create_task(connected.run())

    async def is_connected() -> bool:
        return connected.connected

    await await_until("the bus", is_connected)
    yield connected
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_stream_that_is_cancelled_leaves_no_open_lease(
    edge: Edge, gateway: Gateway, bus: NatsBus
) -> None:
    async def is_open(request_id: str) -> bool:
        query = events_pb2.LeaseQuery(pool=edge.pool).SerializeToString()
        answers = await bus.query(subjects.leases_query(edge.pool), query, timeout_s=0.2)
        snapshots = [events_pb2.LeaseSnapshot.FromString(answer) for answer in answers]
        return any(item.request_id == request_id for each in snapshots for item in each.leases)

    async def is_closed(request_id: str) -> bool:
        return not await is_open(request_id)

    stream = gateway.open()
    await stream.send(request_headers(request_id="goes"), request_body(a_body(), end=True))
    await stream.reply()
    await await_until("the lease", lambda: is_open("goes"))
    stream.cancel()
    await await_until("its end", lambda: is_closed("goes"))
