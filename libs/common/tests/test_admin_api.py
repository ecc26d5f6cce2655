import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter

from pointsman_common.admin_api import AdminApi
from pointsman_common.errors import SettingsError
from pointsman_common.identity import description
from pointsman_common.testing.waiting import until


class DemoSettings(msgspec.Struct, frozen=True, kw_only=True):
    redis_url: str = "redis://:s3cret@redis:6379"
    queue_ttl_s: float = 60.0


class World:
    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self.ready = True
        registry = CollectorRegistry()
        Counter("demo_requests_total", "Requests.", registry=registry).inc(3)
        router = APIRouter()
        router.get("/extra")(lambda: {"extra": 1})
        self.api = AdminApi(
            address,
            settings=DemoSettings(),
            registry=registry,
            ready=lambda: self.ready,
            describe=lambda: description("router", "router/test", config_hash="h1"),
            routers=[router],
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        task = asyncio.create_task(self.api.run())
        await until(lambda: bool(self.api.bound) or task.done())
        yield self
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def get(self, path: str) -> tuple[int, str]:
        host, _, port = self.api.bound.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(5):
            answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body


async def test_health_and_readiness_are_told_apart() -> None:
    async with World().running() as world:
        assert await world.get("/healthz") == (200, '{"status":"alive"}')
        assert await world.get("/readyz") == (200, '{"status":"ready"}')
        world.ready = False
        assert await world.get("/readyz") == (503, '{"status":"not ready"}')
        assert (await world.get("/healthz"))[0] == 200


async def test_a_draining_service_is_not_ready_and_still_shows_its_metrics() -> None:
    async with World().running() as world:
        await world.api.drain(5.0)
        assert await world.get("/readyz") == (503, '{"status":"draining"}')
        status, body = await world.get("/metrics")
        assert status == 200
        assert "demo_requests_total 3.0" in body


async def test_settings_are_shown_without_their_secrets() -> None:
    async with World().running() as world:
        status, body = await world.get("/settings")
        assert status == 200
        assert json.loads(body) == {
            "redis_url": "redis://:***@redis:6379",
            "queue_ttl_s": 60.0,
        }


async def test_the_service_says_what_it_is_and_serves_the_routes_it_was_given() -> None:
    async with World().running() as world:
        described = json.loads((await world.get("/describe"))[1])
        assert described["layer"] == "router"
        assert described["contract_version"] == "v1"
        assert described["config_hash"] == "h1"
        assert await world.get("/extra") == (200, '{"extra":1}')


async def test_a_taken_port_is_an_error_that_names_the_address() -> None:
    async with World().running() as world:
        with pytest.raises(OSError, match=f"cannot listen on {world.api.bound}"):
            await World(world.api.bound).api.run()


async def test_the_port_is_free_again_when_the_part_has_ended() -> None:
    async with World().running() as world:
        await world.get("/healthz")
    async with World(world.api.bound).running() as again:
        assert (await again.get("/healthz"))[0] == 200


@pytest.mark.parametrize("address", ["9090", "localhost", "host:http", "host:99999"])
def test_an_address_without_a_port_is_refused_as_a_setting(address: str) -> None:
    with pytest.raises(SettingsError, match="admin_address"):
        World(address)
