"""When something fails: each row of the failure table of docs/architecture.md, on real parts."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.load import steady_load
from support.polling import await_until, wait_until
from support.processes import http_text
from support.whole_stack import GatewaySpec, Replica, WholeStack

pytestmark = pytest.mark.timeout(180)

# Above what a busy machine needs to answer, and short enough to wait for a layer that hangs.
DEADLINES = {"route_timeout_s": 4, "pick_timeout_s": 4}
CLOSED = {
    **DEADLINES,
    "router_failure": "failClosed",
    "flow_controller_failure": "failClosed",
    "scheduler_failure": "failClosed",
}
OPEN = {
    **DEADLINES,
    "router_failure": "failOpen",
    "flow_controller_failure": "failOpen",
    "scheduler_failure": "failOpen",
    "default_model": "llama",
}
LAYERS = ("router", "flow_controller", "scheduler")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    with WholeStack(
        tmp_path_factory.mktemp("failures"),
        replicas={"router": 2, "flow_controller": 2, "scheduler": 2},
        gateways={
            "closed": GatewaySpec(edges=2, settings=CLOSED),
            "open": GatewaySpec(settings=OPEN),
        },
    ) as started:
        yield started


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as opened:
        yield opened


async def ask(client: httpx.AsyncClient, url: str, **more: Any) -> httpx.Response:
    body = {"model": "llama", "prompt": "Which way?", "max_tokens": 2, **more}
    return await client.post(f"{url}/v1/completions", json=body)


def bring_back(replicas: list[Replica], stack: WholeStack) -> None:
    for replica in replicas:
        if not replica.process.alive():
            replica.process.restart()
    stack.wait_ready()


@pytest.mark.parametrize("layer", LAYERS)
async def test_losing_one_replica_of_a_layer_fails_no_request(
    stack: WholeStack, layer: str
) -> None:
    load = asyncio.create_task(steady_load(stack.gateways["closed"], requests=150, per_second=50))
    edge = stack.edges["closed"][0]
    await await_until(
        "the load",
        lambda: asyncio.to_thread(lambda: edge.metric("llm_d_epp_request_total") > 0),
    )
    stack.layers[layer][0].process.kill()
    report = await load
    await asyncio.to_thread(bring_back, stack.layers[layer], stack)
    assert report.failures == []


@pytest.mark.parametrize("layer", LAYERS)
async def test_losing_all_replicas_of_a_layer_follows_the_failure_policy(
    stack: WholeStack, client: httpx.AsyncClient, layer: str
) -> None:
    for replica in stack.layers[layer]:
        replica.process.kill()
    refused = await ask(client, stack.gateways["closed"])
    served = await ask(client, stack.gateways["open"])
    await asyncio.to_thread(bring_back, stack.layers[layer], stack)
    assert refused.status_code == 503
    assert layer.replace("_", "-") in refused.json()["error"]["message"]
    assert served.status_code == 200, served.text
    await _served_again(client, stack)


async def _served_again(client: httpx.AsyncClient, stack: WholeStack) -> None:
    """Wait until every edge serves: each may have given a layer up for a while."""

    async def good() -> bool:
        replies = [
            await ask(client, stack.gateways[name]) for name in ("closed", "open") for _ in range(4)
        ]
        return all(reply.status_code == 200 for reply in replies)

    await await_until("service again", good)


async def test_a_scheduler_that_hangs_is_given_up_at_its_deadline(
    stack: WholeStack, client: httpx.AsyncClient
) -> None:
    for replica in stack.layers["scheduler"]:
        replica.process.pause()
    try:
        refused = await ask(client, stack.gateways["closed"])
        served = await ask(client, stack.gateways["open"])
    finally:
        for replica in stack.layers["scheduler"]:
            replica.process.resume()
    assert refused.status_code == 503
    assert "scheduler" in refused.json()["error"]["message"]
    assert served.status_code == 200, served.text
    await _served_again(client, stack)


async def test_requests_go_on_without_nats_and_events_flow_again_after(
    stack: WholeStack, client: httpx.AsyncClient
) -> None:
    stack.nats.kill()
    report = await steady_load(stack.gateways["closed"], requests=60, per_second=30)
    assert report.failures == []
    await asyncio.to_thread(stack.nats.restart)

    async def receipt_of_a_new_request() -> bool:
        reply = await client.post(
            f"{stack.gateways['closed']}/v1/completions",
            json={"model": "llama", "prompt": "after", "max_tokens": 1},
        )
        request_id = reply.headers["x-request-id"]
        return await asyncio.to_thread(_has_receipt, stack, request_id)

    await await_until("receipts over the bus again", receipt_of_a_new_request, timeout_s=30)


def _has_receipt(stack: WholeStack, request_id: str) -> bool:
    listed = json.loads(http_text(f"{stack.rest}/v1/pools/default/llama/decisions?limit=50"))
    return any(item["descriptor"]["request_id"] == request_id for item in listed["decisions"])


async def test_requests_go_on_without_redis(stack: WholeStack) -> None:
    stack.redis.kill()
    report = await steady_load(stack.gateways["closed"], requests=40, per_second=40)
    await asyncio.to_thread(stack.redis.restart)
    assert report.failures == []


async def test_a_datalayer_that_restarts_without_bus_and_store_finds_the_endpoints_again(
    stack: WholeStack,
) -> None:
    stack.nats.kill()
    stack.redis.kill()
    [datalayer] = stack.layers["datalayer"]
    datalayer.process.kill()
    without = await steady_load(stack.gateways["closed"], requests=30, per_second=30)
    await asyncio.to_thread(datalayer.process.restart)

    def found() -> bool:
        return [item["ready"] for item in stack.pool_state()["endpoints"]] == [True] * 3

    await asyncio.to_thread(wait_until, "the endpoints from discovery", found)
    after = await steady_load(stack.gateways["closed"], requests=30, per_second=30)
    await asyncio.to_thread(stack.nats.restart)
    await asyncio.to_thread(stack.redis.restart)
    assert without.failures == []
    assert after.failures == []


async def test_a_lost_edge_is_replaced_and_its_leases_expire(
    stack: WholeStack, client: httpx.AsyncClient
) -> None:
    first = stack.edges["closed"][0]
    # Long answers, so that both edges hold leases when the first one dies.
    long = [
        asyncio.create_task(ask(client, stack.gateways["closed"], max_tokens=4_000, stream=True))
        for _ in range(8)
    ]
    await await_until(
        "open leases", lambda: asyncio.to_thread(lambda: stack.in_flight() >= 8), timeout_s=30
    )
    first.process.kill()
    try:
        await _served_again(client, stack)
        for task in long:
            task.cancel()
        await asyncio.gather(*long, return_exceptions=True)
        await await_until(
            "no open lease",
            lambda: asyncio.to_thread(lambda: stack.in_flight() == 0),
            timeout_s=30,
        )
    finally:
        await asyncio.to_thread(bring_back, stack.edges["closed"], stack)


async def test_a_lost_model_server_is_left_out_and_the_others_serve(stack: WholeStack) -> None:
    victim = stack.engines[0]
    load = asyncio.create_task(
        steady_load(stack.gateways["closed"], requests=60, per_second=30, stream=False)
    )
    report = await load
    assert report.failures == []
    victim.kill()
    after = await steady_load(stack.gateways["closed"], requests=60, per_second=30, stream=False)
    gone = f"127.0.0.1:{stack.engine_ports[0]}"

    def marked() -> bool:
        states = {item["address"]: item["ready"] for item in stack.pool_state()["endpoints"]}
        return states[gone] is False

    await asyncio.to_thread(wait_until, "the lost server to be marked", marked)
    await asyncio.to_thread(victim.restart)
    await asyncio.to_thread(stack.wait_ready)
    assert after.failures == []
    assert gone not in after.servers


async def test_a_bad_configuration_is_refused_and_the_old_one_stays(
    stack: WholeStack, client: httpx.AsyncClient
) -> None:
    before = stack.pool_state()["config"]["hash"]
    path: Path = stack.manifests / "broken.yaml"
    path.write_text("kind: InferencePool\nspec: {surprise: 1}\n")
    [datalayer] = stack.layers["datalayer"]
    await asyncio.to_thread(
        wait_until,
        "the refusal in the metrics",
        lambda: datalayer.metric("pointsman_datalayer_config_refused") >= 1,
    )
    assert stack.pool_state()["config"]["hash"] == before
    assert (await ask(client, stack.gateways["closed"])).status_code == 200
    path.unlink()
    await asyncio.to_thread(
        wait_until,
        "the refusal to end",
        lambda: datalayer.metric("pointsman_datalayer_config_refused") == 0,
    )


async def test_a_pool_without_endpoints_is_503(
    stack: WholeStack, client: httpx.AsyncClient
) -> None:
    stack.write_endpoints(())
    await asyncio.to_thread(
        wait_until, "an empty pool", lambda: stack.pool_state()["endpoints"] == []
    )
    # A request waits for an endpoint as long as it may: here, a tenth of a second.
    gone = await client.get(
        f"{stack.gateways['closed']}/v1/models", headers={"x-pointsman-queue-ttl-ms": "100"}
    )
    stack.write_endpoints(stack.engine_ports)
    await asyncio.to_thread(stack.wait_ready)
    assert gone.status_code == 503
    assert gone.headers["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"


async def test_a_client_that_goes_gives_its_lease_back(
    stack: WholeStack, client: httpx.AsyncClient
) -> None:
    task = asyncio.create_task(ask(client, stack.gateways["closed"], max_tokens=4_000, stream=True))
    await await_until("a lease", lambda: asyncio.to_thread(lambda: stack.in_flight() == 1))
    task.cancel()
    await await_until("no lease", lambda: asyncio.to_thread(lambda: stack.in_flight() == 0))
