"""A channel and a server with a real Envoy between them, its windows as small as it allows."""

import asyncio
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wire import BidiStream, Channel, ClientTls, RpcError, RpcStatus, Server, ServerTls

_BESIDE = Path(sys.executable).parent / "envoy"
ENVOY = str(_BESIDE) if _BESIDE.exists() else shutil.which("envoy")

# Wherever the project installs Envoy, its absence is a failure and not a skip.
pytestmark = pytest.mark.skipif(
    ENVOY is None and sys.platform == "darwin" and platform.machine() == "x86_64",
    reason="there is no Envoy wheel for Intel Macs",
)

HTTP = "type.googleapis.com/envoy.extensions"
SMALLEST_WINDOWS = {"initial_stream_window_size": 65_535, "initial_connection_window_size": 65_535}


@dataclass(frozen=True)
class Proxy:
    """Envoy from two ports to two sockets, the second pair with TLS on both sides."""

    folder: Path
    port: int
    tls_port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def upstream(self) -> str:
        return f"unix://{self.folder}/plain"

    @property
    def certificate(self) -> bytes:
        return (self.folder / "party.pem").read_bytes()

    @property
    def key(self) -> bytes:
        return (self.folder / "party.key").read_bytes()


def _tls(kind: str, folder: Path) -> dict[str, Any]:
    """Its own certificate, which the other end must trust, and the other end's, likewise."""
    pem, key = ({"filename": f"{folder}/party.{end}"} for end in ("pem", "key"))
    context: dict[str, Any] = {
        "@type": f"{HTTP}.transport_sockets.tls.v3.{kind}TlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificates": [{"certificate_chain": pem, "private_key": key}],
            "validation_context": {"trusted_ca": pem},
        },
    }
    if kind == "Downstream":
        context["require_client_certificate"] = True
    return {"name": "tls", "typed_config": context}


def _listener(name: str, port: int) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}}
    manager = {
        "@type": f"{HTTP}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "HTTP2",
        "http2_protocol_options": SMALLEST_WINDOWS,
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{HTTP}.filters.http.router.v3.Router"}}
        ],
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _cluster(name: str, folder: Path) -> dict[str, Any]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    endpoint = {"endpoint": {"address": {"pipe": {"path": f"{folder}/{name}"}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": SMALLEST_WINDOWS},
            }
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _configuration(proxy: Proxy) -> str:
    plain, secure = _listener("plain", proxy.port), _listener("secure", proxy.tls_port)
    secure["filter_chains"][0]["transport_socket"] = _tls("Downstream", proxy.folder)
    clusters = [_cluster(name, proxy.folder) for name in ("plain", "secure")]
    clusters[1]["transport_socket"] = _tls("Upstream", proxy.folder)
    clusters[1]["transport_socket"]["typed_config"]["sni"] = "party"
    return json.dumps({"static_resources": {"listeners": [plain, secure], "clusters": clusters}})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _make_certificate(folder: Path) -> None:
    """One certificate for every end; it is its own authority."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=party"),
            *("-addext", "subjectAltName=DNS:party"),
            *("-keyout", str(folder / "party.key"), "-out", str(folder / "party.pem")),
        ],
        check=True,
        capture_output=True,
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    assert ENVOY is not None, "Envoy is not installed"
    # A short name: the path of a Unix socket holds 107 bytes.
    with tempfile.TemporaryDirectory(prefix="wire") as name:
        proxy = Proxy(Path(name), _free_port(), _free_port())
        _make_certificate(proxy.folder)
        config, log = proxy.folder / "envoy.json", proxy.folder / "envoy.log"
        config.write_text(_configuration(proxy))
        process = subprocess.Popen(
            [
                *(ENVOY, "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1"),
                *("--log-level", "warning", "--log-path", str(log)),
            ],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            give_up_at = time.perf_counter() + 30
            while not (_listens(proxy.port) and _listens(proxy.tls_port)):
                assert process.poll() is None, log.read_text()
                assert time.perf_counter() < give_up_at, log.read_text()
                time.sleep(0.05)
            yield proxy
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("waited in vain")


class Backend:
    """A server with handlers of each kind, which notes how calls that hang end."""

    def __init__(self) -> None:
        self.open_calls = 0
        self.cancelled = 0
        self.go_on = asyncio.Event()

    async def start(self, address: str, tls: ServerTls | None = None) -> Server:
        server = Server(transport="wire", tls=tls)
        server.unary("/t.S/Echo", lambda message: message)
        server.unary("/t.S/Hang", self._hang)
        server.unary("/t.S/Refuse", self._refuse)
        server.bidi("/t.S/Talk", self._talk)
        await server.listen(address)
        return server

    async def _talk(self, stream: BidiStream) -> None:
        self.open_calls += 1
        try:
            while (message := await stream.receive()) is not None:
                await stream.send(message)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open_calls -= 1

    async def _hang(self, message: bytes) -> bytes:
        self.open_calls += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open_calls -= 1
        return message

    def _refuse(self, _: bytes) -> bytes:
        raise RpcError(RpcStatus.FAILED_PRECONDITION, "pré %cond\n")


@pytest.fixture
async def backend(proxy: Proxy) -> AsyncIterator[Backend]:
    backend = Backend()
    server = await backend.start(proxy.upstream)
    yield backend
    await server.drain(0)


@pytest.fixture
async def channel(proxy: Proxy, backend: Backend) -> AsyncIterator[Channel]:
    async with Channel(proxy.address, transport="wire") as opened:
        yield opened


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_530, 3 << 20])
async def test_messages_of_any_size_cross(channel: Channel, size: int) -> None:
    message = os.urandom(size)
    assert await channel.unary("/t.S/Echo", message, timeout_s=30) == message


async def test_many_large_messages_cross_at_once(channel: Channel) -> None:
    bodies = [bytes([index]) * (1 << 20) for index in range(20)]
    calls = (channel.unary("/t.S/Echo", body, timeout_s=60) for body in bodies)
    assert await asyncio.gather(*calls) == bodies


async def test_a_thousand_small_calls_cross(channel: Channel) -> None:
    bodies = [str(index).encode() for index in range(1000)]
    calls = (channel.unary("/t.S/Echo", body, timeout_s=60) for body in bodies)
    assert await asyncio.gather(*calls) == bodies


async def test_a_bidirectional_call_carries_all_sizes_in_order(channel: Channel) -> None:
    call = channel.bidi("/t.S/Talk", timeout_s=60)
    for message in [b"a", b"", b"c" * 100_000, bytes(3 << 20), b"e"]:
        await call.send(message)
        assert await call.receive() == message
    await call.done_writing()
    assert await call.receive() is None


async def test_a_status_and_its_message_cross(channel: Channel) -> None:
    with pytest.raises(RpcError) as caught:
        await channel.unary("/t.S/Refuse", b"", timeout_s=20)
    assert caught.value.status is RpcStatus.FAILED_PRECONDITION
    assert caught.value.message == "pré %cond\n"


async def test_a_deadline_ends_the_call_at_both_ends(channel: Channel, backend: Backend) -> None:
    await channel.unary("/t.S/Echo", b"", timeout_s=20)
    with pytest.raises(RpcError) as caught:
        await channel.unary("/t.S/Hang", b"", timeout_s=0.3)
    assert caught.value.status is RpcStatus.DEADLINE_EXCEEDED
    await until(lambda: backend.cancelled == 1)


async def test_a_call_that_is_cancelled_ends_at_the_server(
    channel: Channel, backend: Backend
) -> None:
    call = channel.bidi("/t.S/Talk", timeout_s=60)
    await call.send(b"here")
    assert await call.receive() == b"here"
    call.cancel()
    await until(lambda: backend.cancelled == 1)
    assert backend.open_calls == 0
    assert await channel.unary("/t.S/Echo", b"x", timeout_s=20) == b"x"


async def test_a_call_given_up_within_a_message_leaves_the_connection_in_order(
    channel: Channel, backend: Backend
) -> None:
    for _ in range(10):
        call = channel.bidi("/t.S/Talk", timeout_s=60)
        sending = asyncio.ensure_future(call.send(bytes(3 << 20)))
        await until(lambda: backend.open_calls == 1)
        call.cancel()
        await asyncio.wait([sending])
        await until(lambda: backend.open_calls == 0)
    message = os.urandom(1 << 20)
    assert await channel.unary("/t.S/Echo", message, timeout_s=30) == message


async def test_calls_of_a_client_that_goes_away_end_at_the_server(
    proxy: Proxy, backend: Backend
) -> None:
    async with Channel(proxy.address, transport="wire") as channel:
        calls = [
            asyncio.ensure_future(channel.unary("/t.S/Hang", b"", timeout_s=60)) for _ in range(5)
        ]
        await until(lambda: backend.open_calls == 5)
    await asyncio.wait(calls)
    assert all(isinstance(call.exception(), RpcError) for call in calls)
    await until(lambda: backend.cancelled == 5)


async def test_a_server_that_leaves_answers_what_is_open_and_its_successor_the_rest(
    proxy: Proxy,
) -> None:
    leaving = Backend()
    server = await leaving.start(proxy.upstream)
    async with Channel(proxy.address, transport="wire") as channel:
        last = asyncio.ensure_future(channel.unary("/t.S/Hang", b"last", timeout_s=60))
        await until(lambda: leaving.open_calls == 1)
        draining = asyncio.ensure_future(server.drain(30))
        await asyncio.sleep(0.2)  # Envoy reads the GOAWAY
        successor = await Backend().start(proxy.upstream)
        assert await channel.unary("/t.S/Echo", b"next", timeout_s=20) == b"next"
        assert not last.done()
        leaving.go_on.set()
        assert await last == b"last"
        await draining
        assert await channel.unary("/t.S/Echo", b"after", timeout_s=20) == b"after"
        await successor.drain(0)
        with pytest.raises(RpcError) as caught:
            await channel.unary("/t.S/Echo", b"nobody", timeout_s=20)
        assert caught.value.status is RpcStatus.UNAVAILABLE


async def test_both_hops_may_be_mutual_tls(proxy: Proxy) -> None:
    tls = ServerTls(proxy.certificate, proxy.key, client_ca=proxy.certificate)
    server = await Backend().start(f"unix://{proxy.folder}/secure", tls)
    own = ClientTls(proxy.certificate, proxy.certificate, proxy.key, server_name="party")
    address = f"127.0.0.1:{proxy.tls_port}"
    message = os.urandom(300_000)
    async with Channel(address, transport="wire", tls=own) as channel:
        assert await channel.unary("/t.S/Echo", message, timeout_s=30) == message
    nobody = ClientTls(proxy.certificate, server_name="party")
    async with Channel(address, transport="wire", tls=nobody) as channel:
        with pytest.raises(RpcError) as caught:
            await channel.unary("/t.S/Echo", b"", timeout_s=20)
        assert caught.value.status is RpcStatus.UNAVAILABLE
    await server.drain(0)
