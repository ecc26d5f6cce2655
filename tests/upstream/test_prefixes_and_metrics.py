"""Cases 100–115: health, configuration, prefixes and metrics."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.case_configs import (
    ACTIVE,
    DEF,
    PREFIX_CAPPED,
    QK,
)
from support.case_pools import CasePool, Engine, case, endpoint_entries, state_key
from support.case_stack import Stack
from support.ext_proc_client import Gateway, request_body, request_headers
from support.polling import await_until, wait_until
from support.processes import http_text
from support.request_bodies import E1, E2, asks, completion, finish, send

ONE = (Engine(),)
SCORES = "x-gateway-destination-endpoint-scores"


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
