"""Many small requests at a bounded concurrency, each with what its client saw of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp


@dataclass(frozen=True)
class Ask:
    """One completion. `tokens` says how long its engine works on it."""

    tokens: int
    objective: str = ""
    ttl_ms: int = 0
    stream: bool = False

    def headers(self) -> dict[str, str]:
        headers = {}
        if self.objective:
            headers["x-llm-d-inference-objective"] = self.objective
        if self.ttl_ms:
            headers["x-pointsman-queue-ttl-ms"] = str(self.ttl_ms)
        return headers


@dataclass(frozen=True)
class Seen:
    """What came of it. Times are of the event loop, seconds."""

    ask: Ask
    status: int
    """0: the client saw an error."""
    sent_at: float
    done_at: float
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def reason(self) -> str:
        return self.headers.get("x-llm-d-request-dropped-reason", "")


class Client:
    """One client with as many connections as it has requests open."""

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        self._url, self._timeout_s = url, timeout_s

    async def __aenter__(self) -> "Client":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, ask: Ask) -> Seen:
        body = {
            "model": "llama",
            "prompt": "Which way?",
            "max_tokens": ask.tokens,
            "stream": ask.stream,
        }
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        try:
            async with self._session.post(
                f"{self._url}/v1/completions", json=body, headers=ask.headers()
            ) as reply:
                text = await reply.text()
                headers = {name.lower(): value for name, value in reply.headers.items()}
                return Seen(ask, reply.status, sent_at, loop.time(), headers, text)
        except (aiohttp.ClientError, TimeoutError) as error:
            return Seen(ask, 0, sent_at, loop.time(), text=repr(error))

    async def burst(self, asks: Sequence[Ask], *, concurrency: int) -> list[Seen]:
        """All of them in order, as many at a time; the answers in the same order."""
        seen: dict[int, Seen] = {}
        waiting = iter(enumerate(asks))

        async def work() -> None:
            for index, ask in waiting:
                seen[index] = await self.ask(ask)

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
        return [seen[index] for index in range(len(asks))]
