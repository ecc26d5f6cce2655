"""A model server in this process, on a free port, and a client for it."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from pointsman_simulator.adapters.model_server import ModelServer
from pointsman_simulator.settings import SimulatorSettings

DEADLINE_S = 10.0


@dataclass(frozen=True)
class Client:
    """Talks to one server."""

    address: str
    session: aiohttp.ClientSession

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        """Post JSON and return status and JSON."""
        async with self.session.post(path, json=body) as response:
            return response.status, await response.json()

    async def post_raw(self, path: str, body: bytes | io.BytesIO) -> tuple[int, Any]:
        """Post bytes and return status and JSON."""
        async with self.session.post(path, data=body) as response:
            return response.status, await response.json()

    async def get(self, path: str) -> Any:
        """Get JSON."""
        async with self.session.get(path) as response:
            assert response.status == 200
            return await response.json()

    async def metrics(self) -> dict[str, float]:
        """Return the samples of /metrics by name and labels."""
        async with self.session.get("/metrics") as response:
            assert response.status == 200
            text = await response.text()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    async def metric(self, name: str, labels: str = "") -> float:
        """Return one sample of the model `llama`; `labels` are those between engine and model."""
        return (await self.metrics())[f'vllm:{name}{{engine="0",{labels}model_name="llama"}}']

    async def until_metric(self, name: str, wanted: float, labels: str = "") -> None:
        """Poll until a sample has a value."""
        deadline = time.monotonic() + DEADLINE_S
        while (seen := await self.metric(name, labels)) != wanted:
            assert time.monotonic() < deadline, f"{name} is {seen}, not {wanted}"
            await asyncio.sleep(0.005)


Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers with the settings given; they stop with the test."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Client:
            server = ModelServer(SimulatorSettings(**settings), port=0)
            address = await server.start()
            stack.push_async_callback(server.stop)
            session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    f"http://{address}", timeout=aiohttp.ClientTimeout(total=DEADLINE_S)
                )
            )
            return Client(address, session)

        yield start


@pytest.fixture
async def client(serve: Serve) -> Client:
    """A server with one adapter and the demo profile."""
    return await serve(loras=("llama-sql",))
