"""The hook with the parts that run beside it, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pointsman_common.contracts import flow_pb2
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_common.testing.virtual_clock import settle
from pointsman_flow_controller.testing.wired_service import WiredService, waiting

ONE_AT_A_TIME = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
- {type: concurrency-detector, parameters: {maxConcurrency: 1}}
flowControl:
  saturationDetector: {pluginRef: concurrency-detector}
"""
LEGACY = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig}"


@asynccontextmanager
async def running(service: WiredService) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part.run()) for part in (service.workers, service.subscriber)]
        await settle()
        yield
        for task in tasks:
            task.cancel()


def decoded(task: "asyncio.Task[bytes]") -> flow_pb2.AdmitResponse:
    return flow_pb2.AdmitResponse.FromString(task.result())


def test_a_request_is_admitted_at_once_and_counted() -> None:
    service = WiredService()
    answer = service.answer("l1", fairness_id="tenant")
    assert answer.admitted == flow_pb2.Admitted()
    assert answer.outcome == flow_pb2.OUTCOME_DISPATCHED
    assert service.leases.in_flight(POOL) == 1
    counted = service.metric(
        "llm_d_epp_flow_control_requests_total",
        outcome="Dispatched",
        priority="0",
        inference_pool=POOL,
    )
    assert counted == 1


def test_an_unknown_pool_is_503() -> None:
    answer = WiredService().answer("l1", pool="default/other")
    assert answer.rejection.http_status == 503
    assert answer.rejection.message == 'pool "default/other" is not known'
    assert answer.outcome == flow_pb2.OUTCOME_REJECTED_OTHER


async def test_a_finished_lease_on_the_bus_lets_the_next_go() -> None:
    service = WiredService()
    service.configure(ONE_AT_A_TIME)
    async with running(service):
        service.answer("l1")
        second = service.wait("l2")
        service.pick("l1")
        await service.clock.advance(0.25)
        assert not second.done()
        assert service.queue_size() == 1
        service.finish("l1")
        await settle()
        assert decoded(second).admitted.queued_ms == 250
        assert service.queue_size() == 0


async def test_a_burst_does_not_overshoot_between_two_scrapes() -> None:
    service = WiredService()
    async with running(service):
        answers = [service.ask(f"l{index}") for index in range(12)]
        tasks = [waiting(answer) for answer in answers if not isinstance(answer, bytes)]
        assert len(tasks) == 7
        for index in range(5):
            service.pick(f"l{index}")
        await settle()
        service.serve("l0")  # it waits no more
        await settle()
        assert sum(task.done() for task in tasks) == 1
        await service.clock.advance(0.05)
        service.say(an_endpoint(1, waiting=3))
        await settle()
        # Told of before the scrape: 5, now in the metrics. l5 was let go, and never picked.
        assert sum(task.done() for task in tasks) == 2
        for task in tasks:
            task.cancel()


async def test_a_change_of_the_pool_lets_go_who_waits() -> None:
    service = WiredService()
    service.say(an_endpoint(1, waiting=50))
    async with running(service):
        task = service.wait("l1")
        await service.clock.advance(0.1)
        assert not task.done()
        service.say(an_endpoint(1))
        await settle()
        assert decoded(task).HasField("admitted")


async def test_a_request_waits_for_the_first_endpoint() -> None:
    service = WiredService()
    service.say()
    async with running(service):
        task = service.wait("l1")
        await service.clock.advance(0.5)
        service.say(an_endpoint(1))
        await settle()
        assert decoded(task).admitted.queued_ms == 500


async def test_the_timer_ends_a_wait_at_its_limit() -> None:
    service = WiredService(queue_ttl_s=10.0)
    service.say(an_endpoint(1, waiting=50))
    async with running(service):
        task = service.wait("l1", arrived_at=service.clock.wall() - 7.5)
        await service.clock.advance(2.499)
        assert not task.done()
        await service.clock.advance(0.002)
        answer = decoded(task)
    assert answer.outcome == flow_pb2.OUTCOME_EVICTED_TTL
    assert (answer.rejection.http_status, answer.rejection.reason) == (429, "rejected-ttl-expired")
    assert answer.rejection.retry_after_s >= 1
    assert answer.queue_position == 1


async def test_an_empty_pool_ends_the_wait_with_503() -> None:
    service = WiredService(no_endpoint_queue_ttl_s=1.0)
    service.say()
    async with running(service):
        task = service.wait("l1")
        await service.clock.advance(1.0)
        rejection = decoded(task).rejection
    assert rejection.http_status == 503
    assert rejection.reason == "rejected-no-endpoints"
    assert rejection.message.startswith(
        "request timed out in queue and no endpoints are available: "
    )


async def test_a_cancelled_call_frees_its_place_at_once() -> None:
    service = WiredService(band_capacity_requests=1)
    service.say(an_endpoint(1, waiting=50))
    task = service.wait("l1")
    await settle()
    full = service.answer("l2")
    assert full.rejection.message == "request rejected pre-queue: queue at capacity"
    task.cancel()
    await settle()
    assert service.queue_size() == 0
    service.wait("l3").cancel()
    cancelled = service.metric(
        "llm_d_epp_flow_control_requests_total",
        outcome="EvictedContextCancelled",
        priority="0",
        inference_pool=POOL,
    )
    assert cancelled == 1
    await settle()


async def test_with_the_gate_off_only_the_sheddable_are_refused() -> None:
    service = WiredService()
    service.configure(LEGACY)
    service.say(an_endpoint(1, waiting=50))
    assert service.answer("l1").admitted.unguarded
    shed = service.answer("l2", priority=-1)
    assert shed.rejection.message == "system saturated, sheddable request dropped"
    assert (shed.rejection.reason, shed.rejection.http_status) == ("rejected-saturated", 429)
    service.say()
    assert service.answer("l3", priority=-1).admitted.unguarded


async def test_a_bad_config_keeps_the_old_one_in_force() -> None:
    service = WiredService()
    service.configure(ONE_AT_A_TIME)
    service.answer("l1")
    service.configure("{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, surprise: 1}")
    task = service.wait("l2")
    refused = service.metric("pointsman_flow_controller_refused_configs_total", inference_pool=POOL)
    assert refused == 1
    service.configure(LEGACY)
    await settle()
    assert decoded(task).HasField("admitted")


async def test_a_silent_datalayer_does_not_stop_the_pool() -> None:
    service = WiredService(blind_after_s=5.0)
    async with running(service):
        service.answer("l1")
        await service.clock.advance(4.0)  # metrics are stale: the pool counts as full
        first, second = service.wait("l2"), service.wait("l3")
        await settle()
        assert not first.done()
        await service.clock.advance(2.5)
        assert decoded(first).HasField("admitted")
        assert not second.done()
        assert service.metric("pointsman_flow_controller_blind", inference_pool=POOL) == 1
        second.cancel()


async def test_without_the_bus_dispatch_goes_on() -> None:
    service = WiredService()
    async with running(service):
        answers = [service.ask(f"l{index}") for index in range(10)]
        tasks = [waiting(answer) for answer in answers if not isinstance(answer, bytes)]
        assert len(tasks) == 5
        await service.clock.advance(0.11)  # nobody told where the first five went
        assert all(task.done() for task in tasks)


async def test_a_shut_down_answers_who_waits() -> None:
    service = WiredService()
    service.say(an_endpoint(1, waiting=50))
    task = service.wait("l1")
    await settle()
    service.workers.shut_down()
    await settle()
    rejection = decoded(task).rejection
    assert rejection.message.startswith("flow controller shutting down")
    assert (rejection.http_status, rejection.reason) == (503, "rejected-shutting-down")


async def test_a_request_without_a_lease_is_counted_too() -> None:
    service = WiredService()
    service.answer("")
    service.answer("")
    assert service.leases.in_flight(POOL) == 2


@pytest.mark.parametrize(
    ("own_ms", "ends_after_s"), [(500, 0.5), (None, 2.0), (0, 2.0), (9_000, 9.0)]
)
async def test_a_limit_of_ones_own_goes_before_the_controllers(
    own_ms: int | None, ends_after_s: float
) -> None:
    service = WiredService(queue_ttl_s=2.0)
    service.say(an_endpoint(1, waiting=50))
    request = flow_pb2.AdmitRequest(lease_id="l1")
    request.descriptor.pool = POOL
    if own_ms is not None:
        request.descriptor.queue_ttl_ms = own_ms
    async with running(service):
        task = waiting(service.hook(request.SerializeToString()))
        for _ in range(int(ends_after_s * 10) - 1):
            await service.clock.advance(0.1)
            service.say(an_endpoint(1, waiting=50))
        assert not task.done()
        await service.clock.advance(0.1001)
        assert decoded(task).outcome == flow_pb2.OUTCOME_EVICTED_TTL
