"""Our server under curl, nghttp and h2load, where they are installed."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wire import BidiStream, RpcError, RpcStatus, Server
from wire.grpc.framing import frame_message

BODY = bytes(range(256)) * 40
EMPTY = ("--data", "")
NEEDS = {
    name: pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")
    for name in ("curl", "nghttp", "h2load")
}


def refuse(_: bytes) -> bytes:
    raise RpcError(RpcStatus.NOT_FOUND, "no such thing: é")


class Running:
    """A server, and tools pointed at it; `folder` takes their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.in_call, self.go_on = asyncio.Event(), asyncio.Event()
        self.url = ""
        self.server = Server(transport="wire")
        self.server.unary("/t.S/Echo", lambda message: message)
        self.server.unary("/t.S/Refuse", refuse)
        self.server.unary("/t.S/Wait", self._wait)
        self.server.bidi("/t.S/Talk", self._talk)
        self.message = folder / "message"
        self.message.write_bytes(frame_message(BODY))

    async def _wait(self, message: bytes) -> bytes:
        self.in_call.set()
        await self.go_on.wait()
        return message

    async def _talk(self, stream: BidiStream) -> None:
        while (message := await stream.receive()) is not None:
            await stream.send(message)

    async def run(self, *command: str) -> str:
        """What the tool printed; it must succeed."""
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
        assert process.returncode == 0, output
        return output.decode("latin-1")

    async def curl(self, path: str, *options: str) -> tuple[str, bytes]:
        """The head and the trailers of an answer, and its content."""
        heads, content = self.folder / "heads", self.folder / "content"
        await self.run(
            *("curl", "--silent", "--show-error", "--noproxy", "*", "--http2-prior-knowledge"),
            *("--max-time", "30", "--dump-header", str(heads), "--output", str(content)),
            *options,
            self.url + path,
        )
        return heads.read_bytes().decode(
            "latin-1"
        ), content.read_bytes() if content.exists() else b""

    async def call(self, path: str, *options: str) -> tuple[str, bytes]:
        """A gRPC call by curl."""
        as_grpc = ("-H", "content-type: application/grpc", "-H", "te: trailers")
        return await self.curl(path, *as_grpc, "--data-binary", f"@{self.message}", *options)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(tmp_path)
    [address] = await running.server.listen("127.0.0.1:0")
    running.url = f"http://{address}"
    yield running
    await running.server.drain(0)


@NEEDS["curl"]
@pytest.mark.parametrize("path", ["/t.S/Echo", "/t.S/Talk"])
async def test_curl_makes_a_call_and_gets_its_content_and_trailers(
    running: Running, path: str
) -> None:
    heads, content = await running.call(path)
    assert content == frame_message(BODY)
    head, _, trailers = heads.partition("\r\n\r\n")
    assert head.splitlines()[0].strip() == "HTTP/2 200"
    assert "content-type: application/grpc" in head
    assert "grpc-status" not in head
    assert "grpc-status: 0" in trailers


@NEEDS["curl"]
async def test_curl_gets_a_status_and_its_message(running: Running) -> None:
    heads, content = await running.call("/t.S/Refuse")
    assert "grpc-status: 5" in heads
    assert "grpc-message: no such thing: %C3%A9" in heads
    assert content == b""


@NEEDS["curl"]
async def test_curl_is_told_of_a_method_that_there_is_not(running: Running) -> None:
    # Without content: this curl reports an error when an answer comes before all is sent.
    heads, _ = await running.curl("/t.S/None", "-H", "content-type: application/grpc", *EMPTY)
    assert "grpc-status: 12" in heads


@NEEDS["curl"]
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((), "405"),
        (("--head",), "405"),
        (EMPTY, "415"),
        ((*EMPTY, "-H", "content-type: text/plain"), "415"),
    ],
    ids=str,
)
async def test_curl_gets_an_http_status_for_what_is_no_call(
    running: Running, options: tuple[str, ...], status: str
) -> None:
    heads, _ = await running.curl("/t.S/Echo", *options)
    assert heads.startswith(f"HTTP/2 {status}")


@NEEDS["curl"]
async def test_curl_gets_the_deadline_of_its_own_call(running: Running) -> None:
    heads, _ = await running.call("/t.S/Wait", "-H", "grpc-timeout: 200m")
    assert "grpc-status: 4" in heads


@NEEDS["nghttp"]
@pytest.mark.parametrize(
    "options", [(), ("--padding=100",), ("--window-bits=4", "--connection-window-bits=16")], ids=str
)
async def test_nghttp_makes_calls_with_padding_and_windows_of_15_bytes(
    running: Running, options: tuple[str, ...]
) -> None:
    printed = await running.run(
        *("nghttp", "-v", "--null-out", "--timeout=30", *options),
        *("-H", "content-type: application/grpc", "-H", "te: trailers"),
        *("--data", str(running.message), running.url + "/t.S/Echo"),
    )
    assert "grpc-status: 0" in printed
    received = re.findall(r"recv DATA frame <length=(\d+)", printed)
    assert sum(map(int, received)) == len(frame_message(BODY))


@NEEDS["nghttp"]
async def test_nghttp_sees_both_goaways_of_a_drain_and_its_answer(running: Running) -> None:
    asking = asyncio.ensure_future(
        running.run(
            *("nghttp", "-v", "--null-out", "--timeout=30"),
            *("-H", "content-type: application/grpc", "--data", str(running.message)),
            running.url + "/t.S/Wait",
        )
    )
    async with asyncio.timeout(30):
        await running.in_call.wait()
    draining = asyncio.ensure_future(running.server.drain(30))
    await asyncio.sleep(0.2)  # both GOAWAYs are sent while the call is open
    running.go_on.set()
    printed = await asking
    last_streams = re.findall(r"last_stream_id=(\d+), error_code=NO_ERROR", printed)
    [own] = set(re.findall(r"recv \(stream_id=(\d+)\) grpc-status: 0", printed))
    assert last_streams[:2] == [str(0x7FFF_FFFF), own]
    assert "grpc-status: 0" in printed
    await draining


@NEEDS["h2load"]
async def test_h2load_makes_5000_calls_100_at_once_on_four_connections(running: Running) -> None:
    printed = await running.run(
        *("h2load", "-n", "5000", "-c", "4", "-m", "25", "--data", str(running.message)),
        *("-H", "content-type: application/grpc", "-H", "te: trailers"),
        running.url + "/t.S/Echo",
    )
    assert "5000 succeeded, 0 failed, 0 errored, 0 timeout" in printed
    assert "5000 2xx" in printed
