"""Getting pages over loopback, from servers that behave and from servers that do not."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_common.errors import SettingsError
from pointsman_datalayer.adapters.http_fetcher import open_http_fetcher
from pointsman_datalayer.core.fetching import NonsenseError, TlsFiles, UnreachableError

LONG_S = 20.0
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_get("/metrics", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("/metrics"))


async def test_over_http_the_body_comes_whole_and_the_connection_is_kept() -> None:
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=b"x" * 200_000)

    async with serving(handler) as url, open_http_fetcher(1.0, 1 << 20) as fetcher:
        for _ in range(3):
            assert len(await fetcher.fetch(url)) == 200_000
    assert len(peers) == 1


async def test_over_http_an_endpoint_that_hangs_holds_up_no_other_of_its_host() -> None:
    hang, asked = asyncio.Event(), asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        if not asked.is_set():
            asked.set()
            await hang.wait()
        return web.Response(body=b"x")

    async with serving(handler) as url, open_http_fetcher(5.0, 1 << 20) as fetcher:
        slow = asyncio.ensure_future(fetcher.fetch(url))
        await asked.wait()
        assert await fetcher.fetch(url) == b"x"
        hang.set()
        assert await slow == b"x"


async def test_over_http_a_status_and_an_endless_answer_are_nonsense() -> None:
    async def missing(_: web.Request) -> web.Response:
        return web.Response(status=404)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 10_000)

    async with open_http_fetcher(1.0, 50_000) as fetcher:
        async with serving(missing) as url:
            with pytest.raises(NonsenseError, match="HTTP 404"):
                await fetcher.fetch(url)
        async with serving(endless) as url:
            with pytest.raises(NonsenseError, match="more than 50000 bytes"):
                await fetcher.fetch(url)


async def test_over_http_silence_and_a_closed_port_are_unreachable(free_port: int) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async with open_http_fetcher(0.05, 50_000) as fetcher:
        async with serving(silent) as url:
            with pytest.raises(UnreachableError, match=r"no answer within 0.05 s"):
                await fetcher.fetch(url)
        with pytest.raises(UnreachableError, match="refused"):
            await fetcher.fetch(f"http://127.0.0.1:{free_port}/metrics")


@asynccontextmanager
async def answering(*answers: bytes, close: bool = False) -> AsyncGenerator[tuple[str, list[int]]]:
    """A server that answers each request with the next of `answers`, the last one for ever, as they
    are; and how many requests each connection brought."""
    left, seen = list(answers), list[int]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(seen)
        seen.append(0)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                seen[number] += 1
                writer.write(left.pop(0) if len(left) > 1 else left[0])
                await writer.drain()
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics", seen


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize(
    "whole",
    [
        CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(b"abcde"),
        answer(b"abcde", "Connection: close"),
        answer(b"abcde", "X-Long: " + "y" * 30_000),
    ],
)
async def test_every_form_of_an_answer_is_read(whole: bytes) -> None:
    async with answering(whole) as (url, _), open_http_fetcher(LONG_S, 1000) as fetcher:
        for _ in range(2):
            assert await fetcher.fetch(url) == b"abcde"


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    whole = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nabcde"
    async with (
        answering(whole, close=True) as (url, seen),
        open_http_fetcher(LONG_S, 99) as fetcher,
    ):
        for _ in range(2):
            assert await fetcher.fetch(url) == b"abcde"
    assert seen == [1, 1]


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced() -> None:
    async with (
        answering(answer(b"a"), close=True) as (url, seen),
        open_http_fetcher(LONG_S, 1000) as fetcher,
    ):
        for _ in range(3):
            assert await fetcher.fetch(url) == b"a"
    assert seen == [1, 1, 1]


@pytest.mark.parametrize(
    ("whole", "why"),
    [
        (answer(b"", status="404 Not Found"), "HTTP 404"),
        (answer(b"", "Location: http://elsewhere/", status="302 Found"), "HTTP 302"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "no HTTP answer"),
        (CHUNKED + b"zz\r\n", "no HTTP answer"),
        (answer(b"x" * 2000), "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "more than 1000 bytes"),
        (CHUNKED + b"1\r\nx\r\n" * 20_000, "more than 1000 bytes"),
    ],
)
async def test_what_is_no_page_is_nonsense_and_the_next_question_is_asked_anew(
    whole: bytes, why: str
) -> None:
    async with (
        answering(whole, answer(b"fine")) as (url, seen),
        open_http_fetcher(LONG_S, 1000) as fetcher,
    ):
        with pytest.raises(NonsenseError, match=why):
            await fetcher.fetch(url)
        assert await fetcher.fetch(url) == b"fine"
    assert seen == [1, 1], "the connection was not used again"


async def test_a_second_answer_that_nobody_asked_for_is_never_taken_for_the_next() -> None:
    twice = answer(b"first") + answer(b"smuggled")
    async with (
        answering(twice, answer(b"next")) as (url, _),
        open_http_fetcher(LONG_S, 1000) as fetcher,
    ):
        assert await fetcher.fetch(url) == b"first"
        assert await fetcher.fetch(url) == b"next"


async def test_half_an_answer_is_unreachable() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
    async with answering(half, close=True) as (url, _), open_http_fetcher(LONG_S, 99) as fetcher:
        with pytest.raises(UnreachableError, match="connection lost"):
            await fetcher.fetch(url)
    async with answering(half) as (url, _), open_http_fetcher(0.1, 99) as fetcher:
        with pytest.raises(UnreachableError, match=r"no answer within 0.1 s"):
            await fetcher.fetch(url)


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///x", "http://a:b/", "http://a:99999/", "http://a/\r\nX: y", "nothing"],
)
async def test_what_is_no_address_is_unreachable(url: str) -> None:
    async with open_http_fetcher(LONG_S, 1000) as fetcher:
        with pytest.raises(UnreachableError):
            await fetcher.fetch(url)


@given(noise=st.binary(max_size=200))
@settings(max_examples=40)
def test_no_bytes_of_a_server_raise_anything_else(noise: bytes) -> None:
    async def ask() -> None:
        for whole in (noise, b"HTTP/1.1 200 OK\r\n" + noise):
            async with (
                answering(whole, close=True) as (url, _),
                open_http_fetcher(5.0, 1000) as fetcher,
            ):
                try:
                    assert len(await fetcher.fetch(url)) <= 1000
                except (NonsenseError, UnreachableError):
                    continue

    asyncio.run(ask())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of 127.0.0.1, signed by itself: a certificate and its key."""
    folder = tmp_path_factory.mktemp("tls")
    public, private = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "1", "-subj", "/CN=engine", "-addext"]
    command += ["subjectAltName=IP:127.0.0.1", "-keyout", str(private), "-out", str(public)]
    subprocess.run(command, check=True, capture_output=True)
    return public, private


async def test_over_tls_a_certificate_is_trusted_by_its_ca_or_not_looked_at(
    certificate: tuple[Path, Path],
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=b"page")

    app = web.Application()
    app.router.add_get("/metrics", page)
    trusting, blind = TlsFiles(ca=str(certificate[0])), TlsFiles(verify=False)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=context)
    url = str(server.make_url("/metrics"))
    async with open_http_fetcher(LONG_S, 1000, [trusting, blind]) as fetcher:
        assert await fetcher.fetch(url, trusting) == b"page"
        assert await fetcher.fetch(url, blind) == b"page"
        with pytest.raises(UnreachableError, match="not trusted"):
            await fetcher.fetch(url, TlsFiles())
    await server.close()


async def test_a_file_of_certificates_that_is_not_there_is_refused_by_its_name() -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        async with open_http_fetcher(1.0, 1000, [TlsFiles(ca="/nowhere/ca.pem")]):
            pass
