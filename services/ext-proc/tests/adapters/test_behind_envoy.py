"""The edge behind a real Envoy: every byte arrives, in each mode of requests and answers."""

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.ports import free_port

from pointsman_common.contracts import layer_pb2, routing_pb2, scheduling_pb2
from pointsman_common.endpoint import Endpoint

CHUNKS = 300
"""Events of an answer; see edge_gateway.py."""
AT_ONCE = 16

HAS_ENVOY = (Path(sys.executable).parent / "envoy").exists() or shutil.which("envoy") is not None

# Wherever the project installs Envoy, its absence is a failure and not a skip.
pytestmark = pytest.mark.skipif(
    not HAS_ENVOY and sys.platform == "darwin" and platform.machine() == "x86_64",
    reason="there is no Envoy wheel for Intel Macs",
)


RESPONSE_MODES = [
    ("FULL_DUPLEX_STREAMED", "stream"),
    ("STREAMED", "stream"),
    ("STREAMED", "access-log"),
    ("NONE", "stream"),
    ("BUFFERED", "stream"),
]


@pytest.mark.parametrize(("response_mode", "signal_from"), RESPONSE_MODES)
@pytest.mark.parametrize("request_mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
async def test_streams_in_bursts_arrive_whole_and_every_lease_ends(
    start_gateway: Any, request_mode: str, response_mode: str, signal_from: str
) -> None:
    gateway = await start_gateway(request_mode, response_mode, completion_signal=signal_from)
    for _ in range(2):
        answers = await asyncio.gather(*(gateway.stream() for _ in range(AT_ONCE)))
        assert all(numbers == list(range(CHUNKS)) for numbers in answers)
    running, total = gateway.running, 2 * AT_ONCE
    await running.until(lambda: len(running.told("finished")) >= total)
    finished = running.told("finished")
    assert len({event.lease_id for event in finished}) == len(finished) == total
    assert {event.cause for event in finished} == {"finished"}
    assert {event.http_status for event in finished} == {200}
    assert len(running.edge.leases) == 0
    tells_first_token = response_mode != "NONE"
    assert len(running.told("serving")) == (total if tells_first_token else 0)
    if signal_from == "stream":  # else a short answer may come whole in its first chunk
        counted = {event.output_tokens for event in finished}
        assert counted == ({300} if response_mode != "NONE" else {0})


async def test_the_access_log_ends_a_lease_whose_stream_the_edge_has_left(
    start_gateway: Any,
) -> None:
    gateway = await start_gateway(
        "FULL_DUPLEX_STREAMED", "STREAMED", completion_signal="access-log"
    )
    gateway.backend.hold = asyncio.Event()
    running = gateway.running
    answer = asyncio.create_task(gateway.stream())
    await running.until(lambda: running.told("serving"))
    await running.until(lambda: running.metric("pointsman_edge_open_streams") == 0)
    assert len(running.edge.leases) == 1
    gateway.backend.hold.set()
    assert await answer == list(range(CHUNKS))
    await running.until(lambda: running.told("finished"))
    finished = running.told("finished")[0]
    assert (finished.cause, finished.http_status) == ("finished", 200)
    assert finished.endpoint_address == gateway.backend.address
    assert finished.endpoint_uid == "e1"
    assert len(running.edge.leases) == 0
    sizes = running.metric("llm_d_epp_response_size_bytes_sum")
    assert sizes > CHUNKS * 100


@pytest.mark.parametrize(("response_mode", "signal_from"), RESPONSE_MODES)
async def test_a_client_that_goes_away_frees_its_lease_at_once(
    start_gateway: Any, response_mode: str, signal_from: str
) -> None:
    gateway = await start_gateway(
        "FULL_DUPLEX_STREAMED", response_mode, completion_signal=signal_from
    )
    gateway.backend.hold = asyncio.Event()
    running = gateway.running
    asked = asyncio.create_task(gateway.stream())
    await running.until(lambda: gateway.backend.seen)
    if response_mode not in ("NONE", "BUFFERED"):
        await running.until(lambda: running.told("serving"))
    asked.cancel()
    await running.until(lambda: running.told("finished"))
    # In NONE mode the gateway lets an answer that began look the same, whole or not.
    causes = {"client-gone"} if response_mode != "NONE" else {"client-gone", "finished"}
    assert running.told("finished")[0].cause in causes
    assert len(running.edge.leases) == 0


@pytest.mark.parametrize("request_mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
@pytest.mark.parametrize("response_mode", ["FULL_DUPLEX_STREAMED", "STREAMED", "BUFFERED"])
async def test_a_changed_body_goes_out_and_the_model_name_comes_back(
    start_gateway: Any, request_mode: str, response_mode: str
) -> None:
    gateway = await start_gateway(request_mode, response_mode)
    layers = gateway.running.layers
    longer = b'{"model":"t","pad":"%s"}' % (b"y" * 200_000)

    def route(request: routing_pb2.RouteRequest) -> routing_pb2.RouteResponse:
        reply: routing_pb2.RouteResponse = layers.routed(
            request,
            body_patch=routing_pb2.BodyPatch(replacement=longer),
            model_in_answer="a-longer-name",
        )
        reply.routed.descriptor.target_model = "t"
        return reply

    layers.route = route
    response = await gateway.post(b'{"model":"a-longer-name"}')
    assert response.status_code == 200
    assert response.json()["model"] == "a-longer-name"
    assert response.json()["length"] == len(longer)
    headers, body = gateway.backend.seen[-1]
    assert body == longer
    assert headers["x-gateway-destination-endpoint"] == gateway.backend.address
    await gateway.running.until(lambda: gateway.running.told("finished"))
    finished = gateway.running.told("finished")[0]
    assert (finished.prompt_tokens, finished.output_tokens) == (7, 10)


@pytest.mark.parametrize("request_mode", ["FULL_DUPLEX_STREAMED", "BUFFERED", "NONE"])
async def test_bodies_of_every_length_pass_byte_for_byte(
    start_gateway: Any, request_mode: str
) -> None:
    gateway = await start_gateway(request_mode, "FULL_DUPLEX_STREAMED")
    sent = {"x-gateway-inference-objective": "gold", "x-prefiller-host-port": "6.6.6.6:1"}
    for size in (0, 1, 62_000, 62_001, 125_000, 1_000_000):
        body = os.urandom(size)
        response = await gateway.post(body, headers=sent)
        assert response.status_code == 200
        headers, received = gateway.backend.seen[-1]
        assert received == body
        assert not sent.keys() & headers.keys()


async def test_a_chunked_body_and_a_bodiless_request_pass(start_gateway: Any) -> None:
    gateway = await start_gateway("FULL_DUPLEX_STREAMED", "FULL_DUPLEX_STREAMED")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"z" * 40_000

    assert (await gateway.post(chunks())).json()["length"] == 120_000
    models = await gateway.client.get(f"{gateway.url}/v1/models")
    assert models.status_code == 200
    assert gateway.running.layers.routes[-1].bodiless


@pytest.mark.parametrize("request_mode", ["FULL_DUPLEX_STREAMED", "BUFFERED", "NONE"])
async def test_a_refusal_reaches_the_client_with_its_status_and_headers(
    start_gateway: Any, request_mode: str
) -> None:
    gateway = await start_gateway(request_mode, "FULL_DUPLEX_STREAMED")
    why = layer_pb2.Rejection(
        http_status=429,
        code="ResourceExhausted",
        message="no room",
        reason="rejected-saturated",
        retry_after_s=7,
    )
    gateway.running.layers.pick = lambda _: scheduling_pb2.PickResponse(rejection=why)
    response = await gateway.post(b"{}")
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/json"
    assert response.headers["retry-after"] == "7"
    assert response.headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
    assert response.json()["error"] == {
        "message": "no room",
        "type": "rate_limit_error",
        "param": None,
        "code": "rejected-saturated",
    }
    assert not gateway.backend.seen


async def test_streamed_request_bodies_are_refused_by_name(start_gateway: Any) -> None:
    gateway = await start_gateway("STREAMED", "FULL_DUPLEX_STREAMED")
    response = await gateway.post(b"{}")
    assert response.status_code == 500
    assert "request_body_mode STREAMED" in response.json()["error"]["message"]


@pytest.mark.parametrize("request_mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
async def test_too_long_a_body_is_413_before_it_is_through(
    start_gateway: Any, request_mode: str
) -> None:
    gateway = await start_gateway(request_mode, "FULL_DUPLEX_STREAMED", max_body_bytes=100_000)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"z" * 10_000

    for body in (b"z" * 400_000, chunks()):
        response = await gateway.post(body)
        assert response.status_code == 413
    assert not gateway.running.layers.routes


async def test_a_model_server_that_is_gone_is_a_503_and_is_left_out(start_gateway: Any) -> None:
    gateway = await start_gateway(
        "FULL_DUPLEX_STREAMED", "STREAMED", completion_signal="access-log"
    )
    running = gateway.running
    gone = f"127.0.0.1:{free_port()}"
    endpoint = Endpoint(uid="gone", name="default/gone-rank-0", address=gone)
    running.edge.view.get("default/llama").endpoints["gone"] = endpoint
    running.edge.view.get("default/llama").membership_version += 1
    running.layers.destinations = [gone]
    response = await gateway.post(b"{}")
    assert response.status_code == 503
    await running.until(lambda: running.told("finished"))
    finished = running.told("finished")[0]
    assert (finished.cause, finished.http_status) == ("connection-failed", 503)
    assert not running.edge.view.get("default/llama").endpoints["gone"].ready
