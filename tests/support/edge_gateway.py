"""An edge behind a real Envoy, and a model server of sorts: for the tests of ext-proc."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from pointsman_common.endpoint import Endpoint

CHUNKS = 300


class Backend:
    """A model server of sorts: numbered events in bursts, or JSON that tells what it received."""

    def __init__(self) -> None:
        self.address = ""
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.hold: asyncio.Event | None = None
        """Set: answers stop after their first event until it happens."""
        self.holds_headers = False
        """They stop before they begin."""

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
        if self.hold is not None and self.holds_headers:
            await self.hold.wait()
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

    async def stream(self) -> list[int]:
        """The numbers of a whole answer's events."""
        response = await self.post(b'{"model":"m","stream":true}')
        assert response.status_code == 200
        assert response.text.endswith("data: [DONE]\n\n")
        return [int(number) for number in re.findall(r'"n":"(\d{6})"', response.text)]


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
