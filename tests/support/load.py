"""A steady load of small requests, bounded in count, whose every failure is kept."""

import asyncio
from dataclasses import dataclass, field

import httpx


@dataclass
class LoadReport:
    sent: int = 0
    failures: list[str] = field(default_factory=list)
    servers: set[str] = field(default_factory=set)


async def steady_load(
    url: str,
    *,
    requests: int,
    per_second: float,
    stream: bool = True,
    enough: asyncio.Event | None = None,
) -> LoadReport:
    """Start `requests` completions at a fixed rate, fewer once `enough` is set; wait for all."""
    report = LoadReport()
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=64)
    async with httpx.AsyncClient(timeout=30, limits=limits) as client:

        async def one(index: int) -> None:
            body = {
                "model": "llama",
                "prompt": f"request {index}",
                "max_tokens": 4,
                "stream": stream,
            }
            try:
                reply = await client.post(f"{url}/v1/completions", json=body)
            except httpx.HTTPError as error:
                report.failures.append(f"{index}: {error!r}")
                return
            whole = not stream or reply.text.endswith("data: [DONE]\n\n")
            if reply.status_code != 200 or not whole:
                report.failures.append(f"{index}: {reply.status_code} {reply.text[-200:]}")
            report.servers.add(reply.headers.get("x-simulator-endpoint", ""))

        loop = asyncio.get_running_loop()
        started_at = loop.time()
        async with asyncio.TaskGroup() as group:
            for index in range(requests):
                if enough is not None and enough.is_set():
                    break
                await asyncio.sleep(max(0.0, started_at + index / per_second - loop.time()))
                group.create_task(one(index))
                report.sent += 1
    return report
