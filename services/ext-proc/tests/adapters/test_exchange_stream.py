"""The edge over real gRPC, with fake layers behind it; the test plays the gateway."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.service.ext_proc import v3 as envoy

from pointsman_common.contracts import flow_pb2, routing_pb2, scheduling_pb2
from pointsman_common.contracts.layer_pb2 import Rejection
from pointsman_common.testing.virtual_clock import settle
from pointsman_ext_proc.adapters.envoy_messages import PROCESS
from wire import Channel, RpcError, RpcStatus

BODY = b'{"model":"m","prompt":"hi"}'


class Stream:
    """One ext_proc stream, seen by the gateway."""

    def __init__(self, channel: Channel, *, timeout_s: float = 20.0) -> None:
        self.call = channel.bidi(PROCESS, timeout_s=timeout_s)

    async def send(self, **fields: Any) -> None:
        await self.call.send(bytes(envoy.ProcessingRequest(**fields)))

    async def headers(self, *, end_of_stream: bool = False, **values: str) -> None:
        listed = [
            core.HeaderValue(key=name.replace("_", "-"), raw_value=value.encode())
            for name, value in values.items()
        ]
        headers = envoy.HttpHeaders(
            headers=core.HeaderMap(headers=listed), end_of_stream=end_of_stream
        )
        await self.send(request_headers=headers)

    async def body(self, body: bytes, *, end_of_stream: bool = True) -> None:
        await self.send(request_body=envoy.HttpBody(body=body, end_of_stream=end_of_stream))

    async def answer_headers(self, status: str, content_type: str) -> None:
        listed = [
            core.HeaderValue(key=":status", raw_value=status.encode()),
            core.HeaderValue(key="content-type", raw_value=content_type.encode()),
        ]
        headers = envoy.HttpHeaders(headers=core.HeaderMap(headers=listed))
        await self.send(response_headers=headers)

    async def answer_body(self, body: bytes, *, end_of_stream: bool = False) -> None:
        await self.send(response_body=envoy.HttpBody(body=body, end_of_stream=end_of_stream))

    async def receive(self) -> envoy.ProcessingResponse:
        raw = await self.call.receive()
        assert raw is not None
        return envoy.ProcessingResponse.parse(raw)

    async def receive_end(self) -> None:
        assert await self.call.receive() is None

    async def routed(self) -> dict[str, bytes]:
        """Send a request and take the replies that send it on; returns the headers set."""
        await self.headers(x_request_id="r1")
        await self.body(BODY)
        reply = await self.receive()
        assert reply.request_headers is not None
        assert reply.request_headers.response is not None
        mutation = reply.request_headers.response.header_mutation
        assert mutation is not None
        body = (await self.receive()).request_body
        assert body is not None
        options = [option.header for option in mutation.set_headers if option.header is not None]
        return {header.key: header.raw_value for header in options}


@pytest.fixture
async def edge(start_edge: Any) -> Any:
    return await start_edge()


@pytest.fixture
async def channel(edge: Any) -> AsyncIterator[Channel]:
    async with Channel(edge.address, max_message_bytes=80 << 20) as opened:
        yield opened


async def immediate(stream: Stream) -> envoy.ImmediateResponse:
    reply = (await stream.receive()).immediate_response
    assert reply is not None
    await stream.receive_end()
    return reply


async def test_a_request_goes_through_the_layers_and_its_lease_through_its_life(
    edge: Any, channel: Channel
) -> None:
    stream = Stream(channel)
    headers = await stream.routed()
    assert headers["x-gateway-destination-endpoint"] == b"10.0.0.1:8000"
    await edge.until(lambda: edge.told("picked"))
    lease_id = edge.told("picked")[0].lease.lease_id
    assert edge.layers.admits[0].lease_id == edge.layers.picks[0].lease_id == lease_id
    assert edge.metric("llm_d_epp_request_running") == 1
    await stream.answer_headers("200", "text/event-stream")
    await stream.receive()
    usage = b'data: {"usage":{"prompt_tokens":7,"completion_tokens":10}}\n\n'
    await stream.answer_body(usage)
    echoed = (await stream.receive()).response_body
    assert echoed is not None
    await stream.answer_body(b"", end_of_stream=True)
    await stream.receive()
    await stream.call.done_writing()
    await stream.receive_end()
    await edge.until(lambda: edge.told("finished"))
    assert [type(event).__name__ for event in edge.events()] == [
        "RequestPicked",
        "RequestServing",
        "RequestFinished",
    ]
    assert edge.metric("llm_d_epp_request_total", model_name="m") == 1
    assert edge.metric("llm_d_epp_request_running") == 0
    assert edge.metric("llm_d_epp_request_input_tokens_sum") == 7
    assert edge.metric("llm_d_epp_request_output_tokens_sum") == 10
    assert edge.metric("llm_d_epp_request_ttft_seconds_count", streaming="true") == 1
    assert edge.metric("llm_d_epp_request_duration_seconds_count") == 1
    assert edge.metric("llm_d_epp_response_size_bytes_sum") == len(usage)


async def test_a_refusal_closes_the_stream_and_is_counted_by_its_code(
    edge: Any, channel: Channel
) -> None:
    why = Rejection(http_status=429, code="ResourceExhausted", message="full")
    edge.layers.admit = lambda _: flow_pb2.AdmitResponse(rejection=why)
    stream = Stream(channel)
    await stream.headers()
    await stream.body(BODY)
    reply = await immediate(stream)
    assert reply.status is not None
    assert reply.status.code == 429
    assert not edge.layers.picks
    assert edge.metric("llm_d_epp_request_error_total", error_code="ResourceExhausted") == 1
    await edge.until(lambda: edge.told("finished"))
    finished = edge.told("finished")[0]
    assert finished.lease_id == edge.layers.admits[0].lease_id
    assert finished.http_status == 429


async def test_a_client_that_goes_while_queued_leaves_the_queue_at_once(
    edge: Any, channel: Channel
) -> None:
    left = asyncio.Event()

    async def wait_for_ever(_: Any) -> flow_pb2.AdmitResponse:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            left.set()
            raise
        raise AssertionError

    edge.layers.admit = wait_for_ever
    stream = Stream(channel)
    await stream.headers()
    await stream.body(BODY)
    await edge.until(lambda: edge.layers.admits)
    stream.call.cancel()
    async with asyncio.timeout(5):
        await left.wait()
    await edge.until(lambda: edge.told("finished"))
    assert [event.cause for event in edge.told("finished")] == ["client-gone"]
    assert not edge.told("picked")
    assert edge.metric("llm_d_epp_request_total") == 0
    await edge.until(lambda: edge.metric("pointsman_edge_open_streams") == 0)


async def test_a_client_that_goes_mid_answer_frees_its_lease(edge: Any, channel: Channel) -> None:
    stream = Stream(channel)
    await stream.routed()
    await stream.answer_headers("200", "text/event-stream")
    await stream.receive()
    stream.call.cancel()
    await edge.until(lambda: edge.told("finished"))
    assert edge.told("finished")[0].cause == "client-gone"
    assert len(edge.edge.leases) == 0


@pytest.mark.parametrize(
    ("layer", "name"),
    [("router", "router"), ("flow_controller", "flow-controller"), ("scheduler", "scheduler")],
)
async def test_a_layer_that_is_gone_is_a_503_with_its_name(
    start_edge: Any, folder: Any, layer: str, name: str
) -> None:
    nobody = f"unix://{folder}/nobody-{layer}.sock"
    running = await start_edge(admit_retry_s=0.0, **{f"{layer}_url": nobody})
    async with Channel(running.address) as channel:
        stream = Stream(channel)
        await stream.headers()
        await stream.body(BODY)
        reply = await immediate(stream)
    assert reply.status is not None
    assert reply.status.code == 503
    assert name.encode() in reply.body
    assert running.metric("pointsman_edge_hop_failures_total", layer=name) == 1


async def test_with_fail_open_a_request_passes_without_any_layer(
    start_edge: Any, folder: Any
) -> None:
    nobody = f"unix://{folder}/nobody-at-all.sock"
    running = await start_edge(
        admit_retry_s=0.0,
        router_url=nobody,
        flow_controller_url=nobody,
        scheduler_url=nobody,
        router_failure="failOpen",
        flow_controller_failure="failOpen",
        scheduler_failure="failOpen",
        default_model="llama",
    )
    async with Channel(running.address) as channel:
        headers = await Stream(channel).routed()
    assert headers["x-gateway-destination-endpoint"].startswith(b"10.0.0.1:8000,10.0.0.2:8000")
    await running.until(lambda: running.told("picked"))
    assert running.told("picked")[0].unscheduled
    assert running.told("picked")[0].lease.model == "llama"
    for metric in ("unguarded_total", "last_resort_picks_total"):
        assert running.metric(f"pointsman_edge_{metric}") == 1


async def test_a_slow_layer_is_given_up_at_its_deadline(start_edge: Any) -> None:
    running = await start_edge(pick_timeout_s=0.05)

    async def never(_: Any) -> scheduling_pb2.PickResponse:
        await asyncio.Event().wait()
        raise AssertionError

    running.layers.pick = never
    async with Channel(running.address) as channel:
        stream = Stream(channel)
        await stream.headers()
        await stream.body(BODY)
        reply = await immediate(stream)
    assert reply.status is not None
    assert reply.status.code == 503
    assert running.metric("pointsman_edge_hop_failures_total", layer="scheduler", outcome="timeout")


async def test_two_hundred_interleaved_streams_keep_their_own_ids_and_bodies(
    start_edge: Any,
) -> None:
    # Gateway, edge and layers share one thread here: a hop takes most of a second, and several on a
    # busy machine, where a shorter deadline would rightly refuse the request.
    patient = dict.fromkeys(("route_timeout_s", "admit_timeout_s", "pick_timeout_s"), 60.0)
    edge = await start_edge(**patient)

    async def one(channel: Channel, number: int) -> None:
        stream, body = Stream(channel, timeout_s=60.0), b'{"n":%d}' % number
        await stream.headers(x_request_id=f"r{number}")
        await stream.body(body[:3], end_of_stream=False)
        await settle(number % 5)
        await stream.body(body[3:])
        await stream.receive()
        sent = (await stream.receive()).request_body
        assert sent is not None
        assert sent.response is not None
        assert sent.response.body_mutation is not None
        assert sent.response.body_mutation.streamed_response is not None
        assert sent.response.body_mutation.streamed_response.body == body
        stream.call.cancel()

    async with Channel(edge.address) as channel:
        await asyncio.gather(*(one(channel, number) for number in range(200)))
        asked = {request.request_id: request.body for request in edge.layers.routes}
        assert asked == {f"r{number}": b'{"n":%d}' % number for number in range(200)}
        await edge.until(lambda: len(edge.edge.leases) == 0, seconds=30.0)
        await edge.until(lambda: len(edge.told("finished")) == 200)


async def test_a_message_that_cannot_be_read_ends_the_stream_with_a_status(
    channel: Channel,
) -> None:
    call = channel.bidi(PROCESS, timeout_s=5.0)
    await call.send(b"\xff\xff\xff")
    with pytest.raises(RpcError) as raised:
        await call.receive()
    assert raised.value.status is RpcStatus.INVALID_ARGUMENT


async def test_an_error_of_the_edge_is_a_clear_500(
    edge: Any, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(edge.edge.leases, "open", broken)
    stream = Stream(channel)
    await stream.headers()
    await stream.body(BODY)
    reply = await immediate(stream)
    assert reply.status is not None
    assert reply.status.code == 500
    assert edge.metric("pointsman_edge_stream_failures_total") == 1


async def test_the_body_patch_of_a_router_reaches_the_gateway(edge: Any, channel: Channel) -> None:
    patch = routing_pb2.BodyPatch(replacement=b'{"model":"other"}')
    edge.layers.route = lambda request: edge.layers.routed(request, body_patch=patch)
    headers = await Stream(channel).routed()
    assert headers["Content-Length"] == b"17"


async def test_draining_lets_open_streams_end_then_tells_everything(
    edge: Any, channel: Channel
) -> None:
    stream = Stream(channel)
    await stream.routed()
    draining = asyncio.create_task(edge.edge.server.drain(10.0))
    await settle()
    assert not draining.done()
    await stream.answer_headers("200", "application/json")
    await stream.receive()
    await stream.answer_body(b"{}", end_of_stream=True)
    await stream.receive()
    await stream.call.done_writing()
    await stream.receive_end()
    async with asyncio.timeout(5):
        await draining
    await edge.edge.leases.drain(1.0)
    assert [event.cause for event in edge.told("finished")] == ["finished"]
