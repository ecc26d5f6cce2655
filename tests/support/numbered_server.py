"""A model server whose answers are numbered chunks in bursts, so that a lost one shows."""

import asyncio

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
    """Serves on a free loopback port until closed."""

    async def start(self) -> int:
        app = web.Application()
        app.router.add_post("/v1/completions", _completions)
        app.router.add_get("/metrics", _metrics)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        [address] = self._runner.addresses
        return int(address[1])

    async def close(self) -> None:
        await self._runner.cleanup()
