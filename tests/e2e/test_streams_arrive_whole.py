"""Answers of 300 numbered chunks, sent in bursts, 16 at a time: whole and in order in each mode."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from support.numbered_server import NumberedServer, whole_answer
from support.polling import await_until
from support.whole_stack import GatewaySpec, WholeStack

from pointsman_cli.core.gateway_options import CompletionSignal, ResponseMode

AT_A_TIME, ANSWERS = 16, 96
MODES = {
    "streamed-access-log": GatewaySpec(ResponseMode.STREAMED, CompletionSignal.ACCESS_LOG),
    "streamed": GatewaySpec(ResponseMode.STREAMED, CompletionSignal.STREAM),
    "full-duplex": GatewaySpec(ResponseMode.FULL_DUPLEX, CompletionSignal.STREAM),
    "none": GatewaySpec(ResponseMode.NONE, CompletionSignal.STREAM),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    servers = [NumberedServer() for _ in range(2)]
    ports = tuple(server.port for server in servers)
    folder = tmp_path_factory.mktemp("streams")
    with WholeStack(folder, endpoints=ports, gateways=MODES, served_models="") as started:
        yield started
    for server in servers:
        server.close()


async def ask(client: httpx.AsyncClient, url: str, tag: str) -> bytes:
    reply = await client.post(
        f"{url}/v1/completions", json={"model": "m", "prompt": tag, "stream": True}
    )
    assert reply.status_code == 200, reply.text
    return reply.content


@pytest.mark.parametrize("mode", MODES)
async def test_every_chunk_of_every_answer_arrives_in_order(stack: WholeStack, mode: str) -> None:
    free = asyncio.Semaphore(AT_A_TIME)
    limits = httpx.Limits(max_connections=AT_A_TIME)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:

        async def one(index: int) -> bool:
            async with free:
                tag = f"{mode}-{index}"
                return await ask(client, stack.gateways[mode], tag) == whole_answer(tag)

        whole = await asyncio.gather(*(one(index) for index in range(ANSWERS)))
    assert whole == [True] * ANSWERS


@pytest.mark.parametrize("mode", MODES)
async def test_the_end_of_an_answer_settles_its_lease(stack: WholeStack, mode: str) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        await ask(client, stack.gateways[mode], f"lease-{mode}")

    async def settled() -> bool:
        return await asyncio.to_thread(stack.in_flight) == 0

    await await_until("no open lease", settled)
    [edge] = stack.edges[mode]
    assert edge.metric("pointsman_edge_open_leases") == 0
