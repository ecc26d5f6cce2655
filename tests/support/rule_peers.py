"""Whom rules meet, in one server: an engine that keeps what it gets, a retriever, a moderator."""

import asyncio
from threading import Event, Thread
from typing import Any, NamedTuple

from aiohttp import web

PASSAGES = (
    "The night tram leaves the depot at 23:10.",
    "Lost umbrellas are kept for thirty days.",
    "Dogs travel at half price.",
)


class Sent(NamedTuple):
    """A request as the engine has it."""

    path: str
    headers: dict[str, str]
    body: bytes


def best_passages(query: str, top_k: int) -> list[str]:
    """Those with the most words of the query; of equals the first."""
    words = set(query.lower().split())
    return sorted(PASSAGES, key=lambda text: -len(words & set(text.lower().split())))[:top_k]


class RulePeers:
    """Serves on a free loopback port, from a thread of its own, until closed."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        """What the engine got, in order."""
        self.port = 0
        self._loop = asyncio.new_event_loop()
        ready = Event()
        self._thread = Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _chat(self, request: web.Request) -> web.Response:
        asked = await self._kept(request)
        message = {"role": "assistant", "content": "yes"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
        answer = {"id": "c1", "object": "chat.completion", "created": 1, "model": asked["model"]}
        return web.json_response({**answer, "choices": [choice], "usage": usage})

    async def _messages(self, request: web.Request) -> web.Response:
        asked = await self._kept(request)
        answer = {"id": "m1", "type": "message", "role": "assistant", "model": asked["model"]}
        content = [{"type": "text", "text": "yes"}]
        usage = {"input_tokens": 9, "output_tokens": 1}
        more = {"content": content, "stop_reason": "end_turn", "stop_sequence": None}
        return web.json_response({**answer, **more, "usage": usage})

    async def _kept(self, request: web.Request) -> dict[str, Any]:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.sent.append(Sent(request.path, headers, await request.read()))
        asked: dict[str, Any] = await request.json()
        return asked

    def _serve(self, ready: Event) -> None:
        runner = self._loop.run_until_complete(self._start())
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/search", _search)
        app.router.add_post("/moderate", _moderate)
        app.router.add_get("/metrics", _metrics)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        [address] = runner.addresses
        self.port = int(address[1])
        return runner


async def _search(request: web.Request) -> web.Response:
    asked = await request.json()
    return web.json_response({"passages": best_passages(asked["query"], asked["top_k"])})


async def _moderate(request: web.Request) -> web.Response:
    texts = " ".join((await request.json())["texts"])
    if "dynamite" in texts:
        return web.json_response({"allowed": False, "reason": "no explosives on board"})
    return web.json_response({"allowed": True})


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(
        text="vllm:num_requests_waiting 0\nvllm:num_requests_running 0\n"
        "vllm:kv_cache_usage_perc 0.1\n"
    )
