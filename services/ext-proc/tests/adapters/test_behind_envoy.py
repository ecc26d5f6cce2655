"""The edge behind a real Envoy: every byte arrives, in each mode of requests and answers."""

import asyncio
import json
import os
import platform
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from pointsman_common.contracts import layer_pb2, routing_pb2, scheduling_pb2
from pointsman_common.endpoint import Endpoint

CHUNKS = 300
AT_ONCE = 16

HAS_ENVOY = (Path(sys.executable).parent / "envoy").exists() or shutil.which("envoy") is not None

# Wherever the project installs Envoy, its absence is a failure and not a skip.
pytestmark = pytest.mark.skipif(
    not HAS_ENVOY and sys.platform == "darwin" and platform.machine() == "x86_64",
    reason="there is no Envoy wheel for Intel Macs",
)


class Backend:
    """A model server of sorts: numbered events in bursts, or JSON that tells what it received."""

    def __init__(self) -> None:
        self.address = ""
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.hold: asyncio.Event | None = None
        """Set: answers stop after their first event until it happens."""

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                headers = _parsed(await reader.readuntil(b"\r\n\r\n"))
                body = await _read_body(reader, headers)
                self.seen.append((headers, body))
                if b'"stream":true' in body:
                    await self._stream(writer)
                else:
                    usage = {"prompt_tokens": 7, "completion_tokens": 10}
                    answer = {"model": "t", "length": len(body), "usage": usage}
                    raw = json.dumps(answer, separators=(",", ":")).encode()
                    writer.write(
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                        b"content-length: %d\r\n\r\n%s" % (len(raw), raw)
                    )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # Envoy has closed the connection
        finally:
            writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"
            b"content-type: text/event-stream\r\n\r\n"
        )
        for number in range(CHUNKS):
            event = b'data: {"n":"%06d","model":"t","pad":"%s"}\n\n' % (number, b"x" * 100)
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            if self.hold is not None:
                await writer.drain()
                await self.hold.wait()
            elif number % 7 == 0:
                await asyncio.sleep(0)
        usage = b'data: {"usage":{"prompt_tokens":7,"completion_tokens":300}}\n\ndata: [DONE]\n\n'
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(usage), usage))


def _parsed(raw: bytes) -> dict[str, str]:
    lines = raw.decode().split("\r\n")
    fields = (line.partition(":") for line in lines[1:] if line)
    return {":request": lines[0]} | {name.lower(): value.strip() for name, _, value in fields}


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while (await reader.readline()) != b"\r\n":
        pass
    return body


@dataclass
class Gateway:
    url: str
    backend: Backend
    running: Any
    client: httpx.AsyncClient
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def post(self, body: bytes, **extra: Any) -> httpx.Response:
        return await self.client.post(f"{self.url}/v1/chat/completions", content=body, **extra)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _cluster(name: str, edge_socket: str) -> dict[str, Any]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    endpoint = {"endpoint": {"address": {"pipe": {"path": edge_socket}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _configuration(port: int, edge_socket: str, request_mode: str, response_mode: str) -> str:
    filters = "type.googleapis.com/envoy.extensions.filters.http"
    trailers = "SEND" if response_mode != "NONE" else "SKIP"
    ext_proc = {
        "@type": f"{filters}.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": "edge"}},
        "message_timeout": "60s",
        "processing_mode": {
            "request_header_mode": "SEND",
            "response_header_mode": "SEND",
            "request_body_mode": request_mode,
            "response_body_mode": response_mode,
            "request_trailer_mode": "SEND",
            "response_trailer_mode": trailers,
        },
        "response_attributes": ["upstream.address"],
        "metadata_options": {
            "forwarding_namespaces": {"untyped": ["envoy.lb", "envoy.lb.subset_hint"]},
            "receiving_namespaces": {"untyped": ["envoy.lb"]},
        },
    }
    loggers = "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3"
    access_log = {
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": {
            "@type": f"{loggers}.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": "edge",
                "transport_api_version": "V3",
                "buffer_flush_interval": "0.05s",
                "grpc_service": {"envoy_grpc": {"cluster_name": "edge"}},
            },
        },
    }
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network"
        ".http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "access_log": [access_log],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "endpoints", "timeout": "60s"},
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {"name": "ext_proc", "typed_config": ext_proc},
            {"name": "router", "typed_config": {"@type": f"{filters}.router.v3.Router"}},
        ],
    }
    listener = {
        "name": "in",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    endpoints = {
        "name": "endpoints",
        "type": "ORIGINAL_DST",
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {
            "use_http_header": True,
            "http_header_name": "x-gateway-destination-endpoint",
        },
    }
    resources = {"listeners": [listener], "clusters": [_cluster("edge", edge_socket), endpoints]}
    return json.dumps({"static_resources": resources})


@pytest.fixture
async def start_gateway(folder: Path, layers: Any, start_edge: Any) -> AsyncIterator[Any]:
    """Starts Envoy, an edge and a model server; modes and settings of choice."""
    gateways: list[Gateway] = []
    servers: list[asyncio.Server] = []

    async def start(request_mode: str, response_mode: str, **settings: Any) -> Gateway:
        backend = Backend()
        servers.append(await backend.start())
        endpoint = Endpoint(uid="e1", name="default/pod-1-rank-0", address=backend.address)
        running = await start_edge(endpoints=[endpoint], **settings)
        layers.destinations = [backend.address]
        port = _free_port()
        config = folder / "envoy.json"
        config.write_text(_configuration(port, f"{folder}/edge.sock", request_mode, response_mode))
        beside = Path(sys.executable).parent / "envoy"
        envoy = str(beside) if beside.exists() else "envoy"
        process = await asyncio.create_subprocess_exec(
            envoy, "-c", str(config), "--use-dynamic-base-id", "--concurrency", "2",
            "--log-level", "warning", "--log-path", str(folder / "envoy.log"),
            start_new_session=True, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        client = httpx.AsyncClient(timeout=30, trust_env=False)
        gateway = Gateway(f"http://127.0.0.1:{port}", backend, running, client, [process])
        gateways.append(gateway)
        await running.until(lambda: _listens(port), seconds=20)
        return gateway

    yield start
    for gateway in gateways:
        await gateway.client.aclose()
        for process in gateway.processes:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
    for server in servers:
        server.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.05)
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _stream(gateway: Gateway) -> list[int]:
    response = await gateway.post(b'{"model":"m","stream":true}')
    assert response.status_code == 200
    assert response.text.endswith("data: [DONE]\n\n")
    return [int(number) for number in re.findall(r'"n":"(\d{6})"', response.text)]


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
        answers = await asyncio.gather(*(_stream(gateway) for _ in range(AT_ONCE)))
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
    answer = asyncio.create_task(_stream(gateway))
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
    asked = asyncio.create_task(_stream(gateway))
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
    gone = f"127.0.0.1:{_free_port()}"
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
