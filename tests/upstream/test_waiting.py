"""Cases 86–98: waiting and leaving the queue."""

import asyncio
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from support.case_configs import (
    FC,
    flow_control,
    one_at_a_time,
)
from support.case_pools import CasePool, Engine, case, endpoint_entries, state_key
from support.case_stack import Stack
from support.ext_proc_client import Gateway, GatewayStream
from support.polling import wait_until
from support.ports import free_port
from support.processes import Process, http_text, start_module, wait_ready
from support.request_bodies import E1, asks, completion, finish, send

ONE = (Engine(),)
FULL = (Engine(50, 0.1),)
REASON = "x-llm-d-request-dropped-reason"


def queued(stack: Stack, pool: CasePool) -> float:
    return flow_metric(stack, "llm_d_epp_flow_control_queue_size", pool)


def flow_metric(stack: Stack, name: str, pool: CasePool, **labels: str) -> float:
    wanted = [f'inference_pool="{pool.full_name}"', *(f'{k}="{v}"' for k, v in labels.items())]
    return sum(
        float(line.rpartition(" ")[2])
        for line in http_text(f"{stack.flow_admin}/metrics").splitlines()
        if line.startswith(f"{name}{{") and all(label in line for label in wanted)
    )


@case(86, config=FC, engines=FULL)
async def test_a_request_waits_until_there_is_room(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    stream = await send(gateway)
    waiting = asyncio.ensure_future(stream.reply(timeout_s=20))
    wait_until("a queued request", lambda: queued(stack, pool) == 1)
    assert not waiting.done()
    stack.target.states[state_key(pool.name, 1, 8000)].waiting = 0
    assert (await waiting).destination == E1


@case(88, config=flow_control(defaultRequestTTL="1s", noEndpointRequestTTL="1s"))
async def test_an_empty_pool_ends_the_wait_with_503(gateway: Gateway) -> None:
    reply = await gateway.ask(*asks())
    assert reply.status == 503
    assert reply.text.startswith(
        "inference error: ServiceUnavailable - "
        "request timed out in queue and no endpoints are available"
    )
    assert reply.immediate_header(REASON) == "rejected-no-endpoints"


@case(89, config=FC)
async def test_a_request_waits_for_the_first_endpoint(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    stream = await send(gateway)
    waiting = asyncio.ensure_future(stream.reply(timeout_s=30))
    await asyncio.to_thread(wait_until, "a queued request", lambda: queued(stack, pool) == 1)
    assert not waiting.done()
    entries = endpoint_entries(CasePool(pool.name, "", [Engine()], []), stack.target)
    (stack.manifests / "case-89.yaml").write_text(yaml.safe_dump({"endpoints": entries}))
    assert (await waiting).destination == E1


@case(91, config=flow_control(priorityBands=[{"priority": 0, "maxRequests": 1}]))
async def test_a_full_band_of_an_empty_pool_refuses_with_503(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    first = await send(gateway)
    wait_until("a queued request", lambda: queued(stack, pool) == 1)
    reply = await gateway.ask(*asks())
    assert (reply.status, reply.immediate_header(REASON)) == (503, "rejected-no-endpoints")
    first.cancel()


@case(92, config=flow_control(priorityBands=[{"priority": 0, "maxBytes": 1000}]), engines=FULL)
async def test_a_band_full_of_bytes_refuses_with_429(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    body = completion(prompt="x" * (600 - len(completion(prompt=""))))
    first = gateway.open()
    await first.send(*asks(body))
    wait_until("a queued request", lambda: queued(stack, pool) == 1)
    reply = await gateway.ask(*asks(body))
    assert (reply.status, reply.immediate_header(REASON)) == (429, "rejected-saturated")
    assert reply.text == (
        "inference error: ResourceExhausted - request rejected pre-queue: queue at capacity"
    )
    first.cancel()


async def dispatch_order(gateway: Gateway, stack: Stack, pool: CasePool) -> list[str]:
    """Queue A, A, A and B behind one running request; say who goes when."""
    running = await send(gateway, x_llm_d_inference_fairness_id="Z")
    assert (await running.reply()).destination == E1
    waiting: dict[asyncio.Future[Any], tuple[str, GatewayStream]] = {}
    for position, flow in enumerate(["A", "A", "A", "B"], start=1):
        stream = await send(gateway, x_llm_d_inference_fairness_id=flow)
        waiting[asyncio.ensure_future(stream.reply(timeout_s=30))] = (flow, stream)
        await asyncio.to_thread(
            wait_until,
            f"{position} queued",
            lambda count=position: queued(stack, pool) == count,
        )
    order: list[str] = []
    while True:
        await finish(running)
        if not waiting:
            return order
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        [gone] = done
        flow, running = waiting.pop(gone)
        assert gone.result().destination == E1
        order.append(flow)


@case(94, config=one_at_a_time("global-strict-fairness-policy"), engines=ONE)
async def test_global_strict_goes_by_arrival(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    assert await dispatch_order(gateway, stack, pool) == ["A", "A", "A", "B"]


@case(95, config=one_at_a_time("round-robin-fairness-policy"), engines=ONE)
async def test_round_robin_takes_each_flow_in_turn(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    assert await dispatch_order(gateway, stack, pool) == ["A", "B", "A", "A"]


@case(97, config=FC, engines=FULL)
async def test_a_client_that_goes_leaves_the_queue(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    stream = await send(gateway)
    wait_until("a queued request", lambda: queued(stack, pool) == 1)
    stream.cancel()
    wait_until("an empty queue", lambda: queued(stack, pool) == 0)
    wait_until(
        "the outcome",
        lambda: (
            flow_metric(
                stack,
                "llm_d_epp_flow_control_requests_total",
                pool,
                outcome="EvictedContextCancelled",
            )
            == 1
        ),
    )


@case(
    98,
    config=FC,
    engines=FULL,
    differs="a draining flow controller serves queued and new requests until the drain ends",
)
async def test_a_draining_flow_controller_still_serves_who_waits(
    stack: Stack, pool: CasePool, tmp_path: Path
) -> None:
    with _own_flow_controller(stack, pool, tmp_path) as (flow, edge):
        gateway = Gateway(edge.address)
        stream = await send(gateway)
        waiting = asyncio.ensure_future(stream.reply(timeout_s=20))
        await asyncio.to_thread(
            wait_until, "a queued request", lambda: _queued_at(flow.admin, pool) == 1
        )
        flow.process.terminate()
        await asyncio.to_thread(
            wait_until, "draining", lambda: "draining" in _readiness(flow.admin)
        )
        stack.target.states[state_key(pool.name, 1, 8000)].waiting = 0
        assert (await waiting).destination == E1
        await gateway.close()


def _readiness(admin: str) -> str:
    try:
        return http_text(f"{admin}/readyz")
    except urllib.error.HTTPError as error:
        return error.read().decode()


def _queued_at(admin: str, pool: CasePool) -> float:
    return sum(
        float(line.rpartition(" ")[2])
        for line in http_text(f"{admin}/metrics").splitlines()
        if line.startswith("llm_d_epp_flow_control_queue_size{") and pool.full_name in line
    )


class _Own:
    def __init__(self, process: Process, address: str, admin: str) -> None:
        self.process, self.address, self.admin = process, address, admin


@contextmanager
def _own_flow_controller(stack: Stack, pool: CasePool, folder: Path) -> Iterator[tuple[_Own, _Own]]:
    """A flow controller and an edge of the case's own, in the shared stack."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(5)]
    flow_address, flow_admin, edge_address, health, edge_admin = addresses
    flow_settings = {
        "BUS_URL": stack.bus_url,
        "DATALAYER_URL": stack.datalayer_url,
        "LISTEN_ADDRESS": flow_address,
        "ADMIN_ADDRESS": flow_admin,
        "DRAIN_S": "20",
    }
    edge_settings = {
        **stack.edges[pool.name],
        "listen_address": edge_address,
        "health_address": health,
        "admin_address": edge_admin,
        "flow_controller_url": f"grpc://{flow_address}",
    }
    flow = start_module(
        "pointsman_flow_controller",
        folder / "flow.log",
        {f"FLOW_CONTROLLER_{key}": value for key, value in flow_settings.items()},
    )
    edge = start_module(
        "pointsman_ext_proc",
        folder / "edge.log",
        {f"EXT_PROC_{key.upper()}": str(value) for key, value in edge_settings.items()},
    )
    try:
        wait_ready(flow, f"http://{flow_admin}")
        wait_ready(edge, f"http://{edge_admin}")
        yield (
            _Own(flow, flow_address, f"http://{flow_admin}"),
            _Own(edge, edge_address, f"http://{edge_admin}"),
        )
    finally:
        edge.stop()
        flow.stop()
