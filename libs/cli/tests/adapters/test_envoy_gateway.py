"""The shipped Envoy configuration in a real Envoy, before a fake edge and fake model servers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

Starter = Callable[..., Awaitable[Any]]


async def post(url: str, body: bytes) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20) as client:
        return await client.post(f"{url}/v1/chat/completions", content=body)


async def test_a_request_goes_to_the_endpoint_that_the_edge_names(start_gateway: Starter) -> None:
    gateway = await start_gateway(live=3)
    for engine in gateway.engines:
        gateway.edge.destinations = engine
        assert (await post(gateway.url, b"{}")).json()["engine"] == engine
    assert gateway.edge.served == gateway.engines


async def test_the_fallback_serves_when_the_first_endpoint_refuses(start_gateway: Starter) -> None:
    gateway = await start_gateway(live=2, dead=1)
    alive, other, dead = gateway.engines
    # In no order that taking turns would give.
    in_turn = [alive, alive, other, other, other, alive]
    for fallback in in_turn:
        gateway.edge.destinations = f"{dead},{fallback}"
        assert (await post(gateway.url, b"{}")).json()["engine"] == fallback
    assert gateway.edge.served == in_turn


async def test_the_fallback_serves_a_large_body_whole(start_gateway: Starter) -> None:
    gateway = await start_gateway(live=1, dead=1)
    alive, dead = gateway.engines
    gateway.edge.destinations = f"{dead},{alive}"
    answer = await post(gateway.url, b"x" * 8_000_000)
    assert answer.json() == {"engine": alive, "received": 8_000_000}


async def test_an_address_outside_the_pool_is_never_dialled(start_gateway: Starter) -> None:
    gateway = await start_gateway(live=1)
    [member] = gateway.engines
    gateway.edge.destinations = "127.0.0.1:9"
    assert (await post(gateway.url, b"{}")).json()["engine"] == member


async def test_a_body_past_the_edges_limit_gets_the_edges_answer(start_gateway: Starter) -> None:
    gateway = await start_gateway(live=1)
    gateway.edge.destinations = gateway.engines[0]
    answer = await post(gateway.url, b"x" * (33 * 2**20))
    assert (answer.status_code, answer.text) == (413, "too large")


async def test_the_access_log_tells_the_edge_which_endpoint_served(start_gateway: Starter) -> None:
    gateway = await start_gateway(live=1, dead=1)
    alive, dead = gateway.engines
    gateway.edge.destinations = f"{dead},{alive}"
    await post(gateway.url, b"{}")
    async with asyncio.timeout(5):
        await gateway.edge.logged_one.wait()
    assert gateway.edge.logged == [alive]


async def test_the_clients_request_id_and_envoy_headers_are_replaced(
    start_gateway: Starter,
) -> None:
    gateway = await start_gateway(live=1)
    gateway.edge.destinations = gateway.engines[0]
    async with httpx.AsyncClient() as client:
        answer = await client.post(gateway.url, headers={"x-request-id": "mine"}, content=b"{}")
    assert answer.headers["x-request-id"] not in ("", "mine")
    assert not [name for name in answer.headers if name.startswith("x-envoy")]


async def test_a_gateway_without_its_edge_says_so_in_openais_form(start_gateway: Starter) -> None:
    gateway = await start_gateway(live=1, edge_away=True)
    answer = await post(gateway.url, b"{}")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == "ext-proc"


async def test_a_pool_of_dead_endpoints_is_told_in_openais_form(start_gateway: Starter) -> None:
    gateway = await start_gateway(live=0, dead=2)
    gateway.edge.destinations = ",".join(gateway.engines)
    answer = await post(gateway.url, b"{}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "endpoint-unreachable")


async def test_a_dead_edge_among_two_costs_no_request(start_gateway: Starter) -> None:
    gateway = await start_gateway(live=1, dead_edges=1)
    gateway.edge.destinations = gateway.engines[0]
    answers = [await post(gateway.url, b"{}") for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 8
