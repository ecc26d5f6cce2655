"""A real Envoy with the shipped configuration, before a fake edge and fake model servers."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import httpx
import pytest
from aiohttp import web
from envoy.config.core.v3 import base_pb2
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.type.v3 import http_status_pb2

from pointsman_cli.adapters.free_ports import free_ports
from pointsman_cli.adapters.programs import find_program
from pointsman_cli.core.envoy_config import (
    POOL_CLUSTER,
    EnvoyPlan,
    render_envoy_config,
)
from pointsman_cli.core.gateway_options import CompletionSignal

MAX_BODY_BYTES = 32 * 2**20
BODY_REPLY_BYTES = 62_000


class FakeEdge:
    """Gathers the request, refuses what is too large, and sends the rest to `destinations`."""

    def __init__(self) -> None:
        self.destinations = ""
        self.served: list[str] = []
        self.logged: list[str] = []
        self.logged_one = asyncio.Event()

    async def process(
        self, messages: AsyncIterator[pb.ProcessingRequest], _: object
    ) -> AsyncIterator[pb.ProcessingResponse]:
        body = bytearray()
        async for message in messages:
            kind = message.WhichOneof("request")
            if kind == "request_headers" and message.request_headers.end_of_stream:
                yield self._destination()
            elif kind == "request_body":
                body += message.request_body.body
                if len(body) > MAX_BODY_BYTES:
                    status = http_status_pb2.HttpStatus(code=413)
                    yield pb.ProcessingResponse(
                        immediate_response=pb.ImmediateResponse(status=status, body=b"too large")
                    )
                    return
                if message.request_body.end_of_stream:
                    yield self._destination()
                    for at in range(0, max(len(body), 1), BODY_REPLY_BYTES):
                        yield _body_reply(
                            bytes(body[at : at + BODY_REPLY_BYTES]),
                            last=at + BODY_REPLY_BYTES >= len(body),
                        )
            elif kind == "response_headers":
                lb = message.metadata_context.filter_metadata["envoy.lb"]
                self.served.append(lb["x-gateway-destination-endpoint-served"])
                yield pb.ProcessingResponse(response_headers=pb.HeadersResponse())
            elif kind == "response_body":
                yield pb.ProcessingResponse(response_body=pb.BodyResponse())
                return

    async def log(
        self, messages: AsyncIterator[als_pb2.StreamAccessLogsMessage], _: object
    ) -> als_pb2.StreamAccessLogsResponse:
        async for message in messages:
            for entry in message.http_logs.log_entry:
                peer = entry.common_properties.upstream_remote_address.socket_address
                self.logged.append(f"{peer.address}:{peer.port_value}")
                self.logged_one.set()
        return als_pb2.StreamAccessLogsResponse()

    def _destination(self) -> pb.ProcessingResponse:
        reply = pb.ProcessingResponse()
        common = reply.request_headers.response
        header = base_pb2.HeaderValue(
            key="x-gateway-destination-endpoint", raw_value=self.destinations.encode()
        )
        common.header_mutation.set_headers.append(base_pb2.HeaderValueOption(header=header))
        reply.dynamic_metadata["envoy.lb"] = {"x-gateway-destination-endpoint": self.destinations}
        return reply


def _body_reply(part: bytes, *, last: bool) -> pb.ProcessingResponse:
    reply = pb.ProcessingResponse()
    streamed = reply.request_body.response.body_mutation.streamed_response
    streamed.body, streamed.end_of_stream = part, last
    return reply


class Gateway:
    """What a test talks to."""

    def __init__(self, url: str, edge: FakeEdge, engines: list[str]) -> None:
        self.url, self.edge, self.engines = url, edge, engines


@contextlib.asynccontextmanager
async def serve_edge(edge: FakeEdge, address: str) -> AsyncIterator[None]:
    server = grpc.aio.server()
    process = grpc.stream_stream_rpc_method_handler(
        edge.process, pb.ProcessingRequest.FromString, pb.ProcessingResponse.SerializeToString
    )
    log = grpc.stream_unary_rpc_method_handler(
        edge.log,
        als_pb2.StreamAccessLogsMessage.FromString,
        als_pb2.StreamAccessLogsResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "envoy.service.ext_proc.v3.ExternalProcessor", {"Process": process}
            ),
            grpc.method_handlers_generic_handler(
                "envoy.service.accesslog.v3.AccessLogService", {"StreamAccessLogs": log}
            ),
        )
    )
    server.add_insecure_port(address)
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def serve_engines(count: int) -> AsyncIterator[list[str]]:
    """Model servers that answer with their own address and the length of what they were sent."""

    async def answer(request: web.Request) -> web.Response:
        received = len(await request.read())
        assert request.transport is not None
        host, port = request.transport.get_extra_info("sockname")
        return web.json_response({"engine": f"{host}:{port}", "received": received})

    async with contextlib.AsyncExitStack() as stack:
        addresses = []
        for _ in range(count):
            app = web.Application(client_max_size=2 * MAX_BODY_BYTES)
            app.router.add_route("*", "/{path:.*}", answer)
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            addresses.append(f"127.0.0.1:{runner.addresses[0][1]}")
        yield addresses


def endpoints_file(addresses: list[str]) -> str:
    members = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        at = {"socket_address": {"address": host, "port_value": int(port)}}
        members.append({"endpoint": {"address": at}})
    assignment = {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": POOL_CLUSTER,
        "endpoints": [{"lb_endpoints": members}],
    }
    return json.dumps({"version_info": "1", "resources": [assignment]})


@contextlib.asynccontextmanager
async def run_envoy(config: Path, admin_address: str) -> AsyncIterator[None]:
    command = [find_program("envoy"), "-c", str(config), "--use-dynamic-base-id"]
    log = config.with_suffix(".log")
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(
            *command, "--concurrency", "1", stdout=output, stderr=output, start_new_session=True
        )
    try:
        async with asyncio.timeout(20), httpx.AsyncClient() as client:
            while True:
                assert child.returncode is None, log.read_text()
                with contextlib.suppress(httpx.TransportError):
                    ready = await client.get(f"http://{admin_address}/ready")
                    if ready.status_code == 200:
                        break
                await asyncio.sleep(0.05)
        yield
    finally:
        child.terminate()
        await child.wait()


GatewayStarter = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def start_gateway(tmp_path: Path) -> AsyncIterator[GatewayStarter]:
    """Starts Envoy, an edge and live engines; `dead` more engines refuse connections."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            *, live: int = 1, dead: int = 0, edge_away: bool = False, dead_edges: int = 0
        ) -> Gateway:
            gateway, admin, edge_port, *others = free_ports(3 + dead + dead_edges)
            dead_ports, dead_edge_ports = others[:dead], others[dead:]
            engines = await stack.enter_async_context(serve_engines(live))
            refusing = [f"127.0.0.1:{port}" for port in dead_ports]
            edge = FakeEdge()
            if not edge_away:
                await stack.enter_async_context(serve_edge(edge, f"127.0.0.1:{edge_port}"))
            endpoints = tmp_path / "endpoints.json"
            endpoints.write_text(endpoints_file([*engines, *refusing]))
            plan = EnvoyPlan(
                listen_address=f"127.0.0.1:{gateway}",
                admin_address=f"127.0.0.1:{admin}",
                edge_addresses=tuple(f"127.0.0.1:{port}" for port in (edge_port, *dead_edge_ports)),
                endpoints_path=str(endpoints),
                completion_signal=CompletionSignal.ACCESS_LOG,
            )
            config = tmp_path / "envoy.yaml"
            config.write_text(render_envoy_config(plan))
            await stack.enter_async_context(run_envoy(config, plan.admin_address))
            return Gateway(f"http://{plan.listen_address}", edge, [*engines, *refusing])

        yield start
