"""What any flow controller must pass: `FLOW_CONTROLLER_UNDER_TEST=host:port pytest <this file>`.

A flow controller under test must know the pools of `STATES` below, from the datalayer or otherwise,
and nobody may finish what it lets go. The suite speaks only protobuf over gRPC: field meanings are
those of flow.proto.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import count
from typing import Any

import pytest
import yaml
from support.fake_datalayer import FakeDatalayer, pool_state
from support.polling import await_until
from support.ports import free_port
from support.processes import Process

from pointsman_common.contracts.flow_pb2 import (
    OUTCOME_DISPATCHED,
    OUTCOME_EVICTED_NO_ENDPOINTS,
    OUTCOME_EVICTED_TTL,
    OUTCOME_REJECTED_CAPACITY,
    OUTCOME_REJECTED_LIMIT,
    OUTCOME_REJECTED_NO_ENDPOINTS,
    OUTCOME_REJECTED_SATURATED,
    AdmitRequest,
    AdmitResponse,
)
from pointsman_common.contracts.layer_pb2 import DescribeRequest, DescribeResponse
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.builders import a_descriptor, an_endpoint
from wire import Channel, RpcError

ADMIT = "/pointsman.flow.v1.FlowController/Admit"
DESCRIBE = "/pointsman.layer.v1.Layer/Describe"
NUMBERS = count(1)


def config(*gates: str, plugins: tuple[Any, ...] = (), **flow_control: Any) -> str:
    document: dict[str, Any] = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "featureGates": list(gates),
        "plugins": list(plugins),
    }
    if flow_control:
        document["flowControl"] = flow_control
    return yaml.safe_dump(document)


ONE_AT_A_TIME = {"type": "concurrency-detector", "parameters": {"maxConcurrency": 1}}
DETECTOR = {"saturationDetector": {"pluginRef": "concurrency-detector"}}
QUEUED = config("flowControl", defaultRequestTTL="1s", noEndpointRequestTTL="1s")
BOUNDED = config("flowControl", priorityBands=[{"priority": 0, "maxRequests": 1, "maxBytes": 1000}])
LIMITED = {
    "type": "tenant-limit-policy",
    "parameters": {"defaultTenant": {"requests": 1, "window": "1h"}},
}
STATES = {
    "contract/free": ("", [an_endpoint(1)]),
    "contract/full": (QUEUED, [an_endpoint(1, waiting=50)]),
    "contract/empty": (QUEUED, []),
    "contract/bounded": (BOUNDED, [an_endpoint(1, waiting=50)]),
    "contract/bounded-empty": (BOUNDED, []),
    "contract/limited": (
        config(
            "flowControl",
            plugins=(LIMITED,),
            usageLimitPolicyPluginRef="tenant-limit-policy",
        ),
        [an_endpoint(1)],
    ),
    "contract/legacy": (config(), [an_endpoint(1, waiting=50)]),
    "contract/legacy-empty": (config(), []),
    "contract/one": (
        config("flowControl", plugins=(ONE_AT_A_TIME,), **DETECTOR),
        [an_endpoint(1)],
    ),
}


@pytest.fixture(scope="module")
def address(
    under_test: Callable[[str], str | None],
    start_service: Callable[[str, Mapping[str, str]], Process],
    fake_datalayer: Callable[..., FakeDatalayer],
    wait_ready: Callable[[Process, str], None],
    no_bus_url: str,
) -> str:
    given = under_test("flow-controller")
    if given:
        return given
    states = [
        pool_state(InferencePool(name=name, hash="h1", endpoint_picker_config=text), *endpoints)
        for name, (text, endpoints) in STATES.items()
    ]
    listen, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    service = start_service(
        "pointsman_flow_controller",
        {
            "FLOW_CONTROLLER_LISTEN_ADDRESS": listen,
            "FLOW_CONTROLLER_ADMIN_ADDRESS": admin,
            "FLOW_CONTROLLER_BUS_URL": no_bus_url,
            "FLOW_CONTROLLER_DATALAYER_URL": fake_datalayer(*states).url,
        },
    )
    wait_ready(service, f"http://{admin}")
    return listen


class FlowController:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def admit(
        self,
        pool: str,
        *,
        ttl_ms: int | None = None,
        age_ms: int | None = None,
        timeout_s: float = 15.0,
        **descriptor: Any,
    ) -> AdmitResponse:
        name = f"lease-{next(NUMBERS)}"
        values = {"arrived_at": time.time(), **descriptor}
        request = AdmitRequest(lease_id=name, descriptor=a_descriptor(name, pool=pool, **values))
        if ttl_ms is not None:
            request.descriptor.queue_ttl_ms = ttl_ms
        if age_ms is not None:
            request.age_ms = age_ms
        reply = await self._channel.unary(ADMIT, request.SerializeToString(), timeout_s=timeout_s)
        return AdmitResponse.FromString(reply)

    def start(self, pool: str, **descriptor: Any) -> "asyncio.Task[AdmitResponse]":
        return asyncio.ensure_future(self.admit(pool, **descriptor))

    async def describe(self) -> DescribeResponse:
        reply = await self._channel.unary(
            DESCRIBE, DescribeRequest().SerializeToString(), timeout_s=5
        )
        return DescribeResponse.FromString(reply)


@pytest.fixture
async def flow(address: str) -> AsyncIterator[FlowController]:
    channel = Channel(address)
    yield FlowController(channel)
    await channel.close()


def refusal(answer: AdmitResponse) -> tuple[int, str, str]:
    rejection = answer.rejection
    return rejection.http_status, rejection.code, rejection.reason


async def gone(task: "asyncio.Task[AdmitResponse]") -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_it_says_that_it_is_a_flow_controller(flow: FlowController) -> None:
    described = await flow.describe()
    assert described.layer == "flow-controller"
    assert described.contract_version == "v1"
    assert described.replica


async def test_a_free_pool_admits_at_once(flow: FlowController) -> None:
    answer = await flow.admit("contract/free")
    assert answer.HasField("admitted")
    assert answer.outcome == OUTCOME_DISPATCHED
    assert answer.admitted.queued_ms < 1_000
    assert not answer.admitted.unguarded


async def test_a_pool_that_is_not_known_is_503(flow: FlowController) -> None:
    answer = await flow.admit("contract/nobody-knows")
    assert refusal(answer)[:2] == (503, "ServiceUnavailable")
    assert "contract/nobody-knows" in answer.rejection.message


async def test_a_wait_in_a_full_pool_ends_with_429(flow: FlowController) -> None:
    started = time.monotonic()
    answer = await flow.admit("contract/full")
    assert 0.5 < time.monotonic() - started < 5.0
    assert refusal(answer) == (429, "ResourceExhausted", "rejected-ttl-expired")
    assert answer.rejection.message == (
        "request timed out in queue: request evicted from queue: request TTL expired"
    )
    assert answer.outcome == OUTCOME_EVICTED_TTL
    assert 1 <= answer.rejection.retry_after_s <= 60
    assert answer.queue_position >= 1


async def test_a_wait_in_an_empty_pool_ends_with_503(flow: FlowController) -> None:
    answer = await flow.admit("contract/empty")
    assert refusal(answer) == (503, "ServiceUnavailable", "rejected-no-endpoints")
    assert answer.rejection.message.startswith(
        "request timed out in queue and no endpoints are available"
    )
    assert answer.outcome == OUTCOME_EVICTED_NO_ENDPOINTS


async def test_the_wait_is_counted_from_the_arrival_at_the_edge(flow: FlowController) -> None:
    started = time.monotonic()
    answer = await flow.admit("contract/full", ttl_ms=10_000, arrived_at=time.time() - 9.7)
    assert answer.outcome == OUTCOME_EVICTED_TTL
    assert time.monotonic() - started < 5.0


async def test_an_age_goes_before_the_time_of_arrival(flow: FlowController) -> None:
    started = time.monotonic()
    answer = await flow.admit(
        "contract/full", ttl_ms=10_000, age_ms=9_700, arrived_at=time.time() + 3_600
    )
    assert answer.outcome == OUTCOME_EVICTED_TTL
    assert time.monotonic() - started < 5.0


async def test_a_tenant_over_its_limit_is_refused_and_others_are_not(flow: FlowController) -> None:
    assert (await flow.admit("contract/limited", fairness_id="A")).HasField("admitted")
    answer = await flow.admit("contract/limited", fairness_id="A")
    assert refusal(answer) == (429, "ResourceExhausted", "rejected-tenant-limit")
    assert answer.outcome == OUTCOME_REJECTED_LIMIT
    assert answer.rejection.retry_after_s == 60
    assert (await flow.admit("contract/limited", fairness_id="B")).HasField("admitted")


async def test_a_request_has_a_limit_of_its_own(flow: FlowController) -> None:
    started = time.monotonic()
    answer = await flow.admit("contract/bounded", ttl_ms=200, priority=5)
    assert answer.outcome == OUTCOME_EVICTED_TTL
    assert time.monotonic() - started < 5.0


async def test_a_full_pool_sheds_negative_priorities(flow: FlowController) -> None:
    answer = await flow.admit("contract/full", priority=-1)
    assert refusal(answer) == (429, "ResourceExhausted", "rejected-saturated")
    assert answer.rejection.message == "system saturated, sheddable request dropped"
    assert answer.outcome == OUTCOME_REJECTED_SATURATED
    assert answer.rejection.retry_after_s >= 1


async def one_of_two(flow: FlowController, pool: str) -> tuple[AdmitResponse, asyncio.Task[Any]]:
    """Of two requests for one place, the one refused, and the one that waits."""
    calls = [flow.start(pool, ttl_ms=30_000), flow.start(pool, ttl_ms=30_000)]
    done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    [refused], [waits] = done, waiting
    return refused.result(), waits


async def test_a_full_band_refuses_and_a_cancelled_call_gives_its_place_up(
    flow: FlowController,
) -> None:
    answer, waits = await one_of_two(flow, "contract/bounded")
    assert answer.outcome == OUTCOME_REJECTED_CAPACITY
    assert refusal(answer) == (429, "ResourceExhausted", "rejected-saturated")
    assert answer.rejection.message == "request rejected pre-queue: queue at capacity"
    assert answer.queue_position == 0
    await gone(waits)

    async def has_room() -> bool:
        return (await flow.admit("contract/bounded", ttl_ms=50)).outcome == OUTCOME_EVICTED_TTL

    await await_until("room in the band", has_room)


async def test_a_band_is_bounded_in_bytes(flow: FlowController) -> None:
    answer = await flow.admit("contract/bounded", body_bytes=1_001)
    assert answer.outcome == OUTCOME_REJECTED_CAPACITY


async def test_a_full_band_of_an_empty_pool_is_503(flow: FlowController) -> None:
    answer, waits = await one_of_two(flow, "contract/bounded-empty")
    assert answer.outcome == OUTCOME_REJECTED_NO_ENDPOINTS
    assert refusal(answer) == (503, "ServiceUnavailable", "rejected-no-endpoints")
    await gone(waits)


async def test_without_the_gate_only_negative_priorities_are_refused(flow: FlowController) -> None:
    answer = await flow.admit("contract/legacy")
    assert answer.admitted.unguarded
    shed = await flow.admit("contract/legacy", priority=-1)
    assert refusal(shed) == (429, "ResourceExhausted", "rejected-saturated")
    assert (await flow.admit("contract/legacy-empty")).HasField("admitted")


async def test_what_it_lets_go_counts_before_the_bus_tells_of_it(flow: FlowController) -> None:
    answers = [flow.start("contract/one", ttl_ms=800) for _ in range(3)]
    outcomes = sorted([(await answer).outcome for answer in answers])
    assert outcomes == [OUTCOME_DISPATCHED, OUTCOME_EVICTED_TTL, OUTCOME_EVICTED_TTL]


async def test_a_call_that_runs_out_of_time_leaves_the_queue(flow: FlowController) -> None:
    with pytest.raises(RpcError):
        await flow.admit("contract/bounded", priority=7, ttl_ms=60_000, timeout_s=0.2)
