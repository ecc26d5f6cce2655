"""Cases 86–115: waiting, health, configuration, prefixes and metrics."""

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.case_configs import (
    ACTIVE,
    DEF,
    FC,
    PREFIX_CAPPED,
    QK,
    flow_control,
    one_at_a_time,
)
from support.case_pools import CasePool, Engine, case, endpoint_entries, state_key
from support.case_stack import Stack
from support.ext_proc_client import Gateway, GatewayStream, request_body, request_headers
from support.polling import await_until, wait_until
from support.ports import free_port
from support.processes import Process, http_text, start_module, wait_ready
from support.request_bodies import E1, E2, asks, completion, finish

ONE = (Engine(),)
FULL = (Engine(50, 0.1),)
REASON = "x-llm-d-request-dropped-reason"
SCORES = "x-gateway-destination-endpoint-scores"


def queued(stack: Stack, pool: CasePool) -> float:
    return flow_metric(stack, "llm_d_epp_flow_control_queue_size", pool)


def flow_metric(stack: Stack, name: str, pool: CasePool, **labels: str) -> float:
    wanted = [f'inference_pool="{pool.full_name}"', *(f'{k}="{v}"' for k, v in labels.items())]
    return sum(
        float(line.rpartition(" ")[2])
        for line in http_text(f"{stack.flow_admin}/metrics").splitlines()
        if line.startswith(f"{name}{{") and all(label in line for label in wanted)
    )


async def send(gateway: Gateway, **headers: str) -> GatewayStream:
    stream = gateway.open()
    await stream.send(*asks(completion(), **headers))
    return stream


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


@case(100, config=QK, differs="there is no leader: every replica is ready")
def test_health_answers_by_service_name(stack: Stack, pool: CasePool) -> None:
    kinds = health_pb2.HealthCheckResponse.ServingStatus
    with grpc.insecure_channel(stack.edges[pool.name]["health_address"]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        found = {
            name: stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status
            for name in ("liveness", "readiness", "", "zzz")
        }
    assert found == {
        "liveness": kinds.SERVING,
        "readiness": kinds.SERVING,
        "": kinds.SERVING,
        "zzz": kinds.SERVICE_UNKNOWN,
    }


@case(101, config=QK)
@pytest.mark.parametrize(
    ("change", "named"),
    [({"surprise": 1}, "surprise"), ({"featureGates": ["timeTravel"]}, "timeTravel")],
)
def test_an_unknown_field_or_gate_refuses_the_start(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    document = {**yaml.safe_load(DEF), **change}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    for module, prefix in [
        ("pointsman_scheduler", "SCHEDULER_"),
        ("pointsman_router", "ROUTER_"),
        ("pointsman_flow_controller", "FLOW_CONTROLLER_"),
    ]:
        done = subprocess.run(
            [sys.executable, "-m", module],
            env={**os.environ, f"{prefix}ENDPOINT_PICKER_CONFIG_PATH": str(path)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode != 0
        assert named in done.stderr


def scores(reply: Any) -> dict[str, float]:
    return dict(reply.metadata[SCORES])


async def ask_and_finish(gateway: Gateway, body: bytes) -> Any:
    stream = gateway.open()
    await stream.send(request_headers(), request_body(body, end=True))
    reply = await stream.reply()
    await finish(stream)
    return reply


@case(103, config=DEF, engines=(Engine(), Engine()))
async def test_a_prompt_goes_back_to_where_it_was(gateway: Gateway) -> None:
    body = completion(prompt="0123456789abcdef" * 128)
    first = await ask_and_finish(gateway, body)
    again = await ask_and_finish(gateway, body)
    assert again.destination == first.destination
    rise = scores(again)[again.destination] - scores(first)[first.destination]
    assert rise == pytest.approx(3.0, abs=1e-6)


@case(104, config=DEF, engines=(Engine(), Engine()))
async def test_another_model_shares_no_prefix(gateway: Gateway) -> None:
    prompt = "0123456789abcdef" * 128
    first = await ask_and_finish(gateway, completion("one", prompt))
    other = await ask_and_finish(gateway, completion("two", prompt))
    assert max(scores(other).values()) == pytest.approx(max(scores(first).values()), abs=1e-6)


@case(106, config=PREFIX_CAPPED, engines=(Engine(), Engine()))
async def test_a_capped_match_is_full_when_its_blocks_are(gateway: Gateway) -> None:
    start = "0123456789abcdef" * 32  # 512 bytes: two blocks
    first = await ask_and_finish(gateway, completion(prompt=start + "a" * 2_000))
    again = await ask_and_finish(gateway, completion(prompt=start + "b" * 2_000))
    rise = scores(again)[again.destination] - scores(first)[first.destination]
    assert again.destination == first.destination
    assert rise == pytest.approx(3.0, abs=1e-6)


@case(107, config=ACTIVE, engines=(Engine(), Engine()))
async def test_open_requests_spread_evenly(gateway: Gateway) -> None:
    counts: dict[str | None, int] = {E1: 0, E2: 0}
    streams = []
    for _ in range(5):
        stream = await send(gateway)
        counts[(await stream.reply()).destination] += 1
        streams.append(stream)
        assert abs(counts[E1] - counts[E2]) <= 1
    for stream in streams:
        await finish(stream)


@case(109, config=QK, engines=ONE, differs="a client's own prefill header is removed")
async def test_a_prefill_header_of_the_client_does_not_pass(gateway: Gateway) -> None:
    reply = await gateway.ask(*asks(x_prefiller_host_port="10.9.9.9:1"))
    assert reply.destination == E1
    assert reply.header("x-prefiller-host-port") is None
    assert "x-prefiller-host-port" in reply.removed


@case(110, config=QK, engines=ONE)
async def test_an_endpoint_that_is_gone_is_not_picked(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    second = CasePool(pool.name, "", [Engine(50, 0.9), Engine(0, 0.0)], [])
    extra = [endpoint_entries(second, stack.target)[1]]
    path = stack.manifests / "case-110.yaml"
    path.write_text(yaml.safe_dump({"endpoints": extra}))
    stack.target.states[state_key(pool.name, 1, 8000)].waiting = 50

    async def goes_to(address: str) -> bool:
        return (await gateway.ask(*asks())).destination == address

    await await_until("the second endpoint", lambda: goes_to(E2))
    path.write_text(yaml.safe_dump({"endpoints": []}))
    await await_until("the first endpoint again", lambda: goes_to(E1))
    assert {(await gateway.ask(*asks())).destination for _ in range(20)} == {E1}


@case(
    112,
    config=QK,
    engines=(
        Engine(kv=0.5, omit=("vllm:num_requests_waiting",)),
        Engine(kv=0.1),
    ),
)
async def test_a_missing_family_leaves_the_others_readable(stack: Stack, pool: CasePool) -> None:
    def first() -> dict[str, Any]:
        state = json.loads(http_text(f"{stack.datalayer_admin}/v1/pools/{pool.full_name}"))
        [found] = [item for item in state["endpoints"] if item["address"] == E1]
        return dict(found["metrics"])

    wait_until("the cache use", lambda: first().get("kv_cache_utilization") == 0.5)
    assert first().get("waiting_requests") is None

    def errors() -> float:
        return sum(
            float(line.rpartition(" ")[2])
            for line in http_text(f"{stack.datalayer_admin}/metrics").splitlines()
            if line.startswith("llm_d_epp_datalayer_extract_errors_total{")
        )

    before = errors()
    wait_until("the error counter to rise", lambda: errors() > before)


@case(
    113,
    config=QK,
    engines=(
        Engine(9, 0.9, engine="sglang", labels={"llm-d.ai/engine-type": "sglang"}),
        Engine(1, 0.1, engine="sglang", labels={"llm-d.ai/engine-type": "sglang"}),
    ),
)
async def test_the_engine_label_chooses_the_metric_names(gateway: Gateway) -> None:
    assert (await gateway.ask(*asks())).destination == E2


@case(115, config=QK, engines=(Engine(),), ports=(8000, 8001))
async def test_only_active_ports_are_used(stack: Stack, pool: CasePool, gateway: Gateway) -> None:
    entries = [
        {
            **entry,
            "labels": {**entry["labels"]},
            "annotations": {"llm-d.ai/active-ports": "8001"},
        }
        for entry in endpoint_entries(pool, stack.target)
    ]
    endpoints = yaml.safe_load((stack.manifests / "endpoints.yaml").read_text())["endpoints"]
    others = [item for item in endpoints if item["labels"]["case"] != pool.name]
    path = stack.manifests / "endpoints.yaml"
    path.write_text(yaml.safe_dump({"endpoints": [*others, *entries]}))

    async def only_8001() -> bool:
        found = {(await gateway.ask(*asks())).destination for _ in range(10)}
        return found == {"10.0.0.1:8001"}

    await await_until("only port 8001", only_8001)


def test_every_case_of_the_table_has_a_test() -> None:
    sources = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    tested = [int(number) for text in sources for number in re.findall(r"@case\(\s*(\d+)", text)]
    wanted = {
        *(1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22, 23, 25, 26, 28, 29),
        *(31, 32, 34, 35, 37, 38, 40, 41, 43, 44, 46, 47, 49),
        *(50, 52, 53, 55, 56, 58, 59),
        *(61, 62, 64, 65, 67, 68, 70, 71),
        *(73, 74, 76, 77, 79, 80, 82, 83, 85),
        *(86, 88, 89, 91, 92, 94, 95, 97, 98, 100, 101, 103, 104, 106, 107, 109, 110),
        *(112, 113, 115),
    }
    assert sorted(tested) == sorted(wanted)
