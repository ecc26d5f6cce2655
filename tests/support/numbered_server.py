"""A model server whose answers are numbered chunks in bursts, so that a lost one shows."""

import asyncio
from threading import Event, Thread

from aiohttp import web

CHUNKS = 300
BURST = 25


def numbered(tag: str, index: int) -> bytes:
    """One event; `tag` names the request."""
    return f"data: {tag} {index:04d}\n\n".encode()


def whole_answer(tag: str) -> bytes:
    return b"".join(numbered(tag, index) for index in range(CHUNKS)) + b"data: [DONE]\n\n"


async def _completions(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    tag = str(asked["prompt"])
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    for start in range(0, CHUNKS, BURST):
        # Each event is a write of its own: the gateway sees many small chunks at once.
        for index in range(start, start + BURST):
            await answer.write(numbered(tag, index))
        await asyncio.sleep(0.002)
    await answer.write(b"data: [DONE]\n\n")
    await answer.write_eof()
    return answer


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(
        text="vllm:num_requests_waiting 0\nvllm:num_requests_running 0\n"
        "vllm:kv_cache_usage_perc 0.1\n"
    )


class NumberedServer:
    """Serves on a free loopback port, from a thread of its own, until closed."""

    def __init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        ready = Event()
        self._thread = Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self, ready: Event) -> None:
        runner = self._loop.run_until_complete(self._start())
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/completions", _completions)
        app.router.add_get("/metrics", _metrics)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        [address] = runner.addresses
        self.port = int(address[1])
        return runner
