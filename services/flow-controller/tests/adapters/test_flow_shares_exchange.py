"""Two replicas on one bus: what they tell each other, and what becomes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pointsman_common import subjects
from pointsman_common.contracts import flow_pb2
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock, settle
from pointsman_flow_controller.testing.wired_service import WiredService, waiting

TWO_AT_A_TIME = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
- {type: concurrency-detector, parameters: {maxConcurrency: 2}}
flowControl:
  enableEviction: true
  saturationDetector: {pluginRef: concurrency-detector}
"""

BROKEN = b"\xff\xff"


def two() -> tuple[WiredService, WiredService]:
    bus, clock = InMemoryBus(), VirtualClock()
    services = [WiredService(name=f"flow-controller/{name}", bus=bus, clock=clock) for name in "ab"]
    for service in services:
        service.configure(TWO_AT_A_TIME)
    return services[0], services[1]


@asynccontextmanager
async def running(*services: WiredService) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(part.run())
            for service in services
            for part in (service.workers, service.subscriber, service.exchange)
        ]
        await settle()
        yield
        for task in tasks:
            task.cancel()


def told(service: WiredService) -> list[flow_pb2.FlowShares]:
    sent = service.bus.sent(subjects.flow_shares(POOL))
    found = [flow_pb2.FlowShares.FromString(payload) for payload in sent if payload != BROKEN]
    return [message for message in found if message.envelope.publisher == service.stamp.publisher]


async def test_the_first_that_waits_is_told_of_at_once_and_the_rest_each_50_ms() -> None:
    a, b = two()
    async with running(a, b):
        for name in ("l1", "l2"):
            a.answer(name)
        await a.clock.advance(0.075)
        before = len(told(a))
        tasks = [a.wait(f"w{index}", fairness_id="A") for index in range(3)]
        await settle()
        assert [(flow.fairness_id, flow.queued) for flow in told(a)[before].flows] == [("A", 1)]
        await a.clock.advance(0.06)
        assert told(a)[-1].flows[0].queued == 3
        worker = b.workers.get(POOL)
        assert worker is not None
        assert worker.controller.peers.board.contested(0) == (0, 3)
        for task in tasks:
            task.cancel()


async def test_who_comes_later_does_not_go_before_what_waits_elsewhere() -> None:
    a, b = two()
    async with running(a, b):
        for name in ("l1", "l2"):
            a.answer(name)
            a.pick(name)
        await settle()
        tasks = [a.wait("w1"), a.wait("w2"), a.wait("w3")]
        await a.clock.advance(0.06)
        a.finish("l1")
        late = b.wait("late")  # there is room, and it is a's
        await settle()
        assert tasks[0].done()
        assert not late.done()
        for task in (*tasks, late):
            task.cancel()


async def test_a_replica_that_ends_leaves_its_share_at_once() -> None:
    a, b = two()
    async with running(b):
        async with running(a):
            for name in ("l1", "l2"):
                a.answer(name)
            task = a.wait("w1")
            await a.clock.advance(0.06)
            worker = b.workers.get(POOL)
            assert worker is not None
            assert worker.controller.peers.board.others_queued
            task.cancel()
        await settle()
        assert told(a)[-1].leaving
        assert not worker.controller.peers.board.others_queued


async def test_while_the_bus_is_away_nothing_is_told_and_the_others_are_not_given_up() -> None:
    a, b = two()
    async with running(a, b):
        for name in ("l1", "l2"):
            a.answer(name)
        task = a.wait("w1")
        await a.clock.advance(0.06)
        sent = len(told(a))
        a.bus.take_away()
        await a.clock.advance(2.0)
        worker = b.workers.get(POOL)
        assert worker is not None
        assert len(told(a)) == sent
        assert worker.controller.peers.contested(b.clock.monotonic())
        a.bus.bring_back()
        await a.clock.advance(0.06)
        assert told(a)[-1].whole
        task.cancel()


async def test_an_unreadable_message_changes_nothing() -> None:
    a, b = two()
    async with running(a, b):
        b.answer("l1")
        a.bus.publish(subjects.flow_shares(POOL), BROKEN)
        await a.clock.advance(1.1)
        assert told(b)


async def test_leases_to_be_ended_are_told_of_on_the_bus() -> None:
    a, _ = two()
    for name in ("batch1", "batch2"):
        a.answer(name, priority=-1)
    task = a.wait("chat", priority=3)
    [payload] = a.bus.sent(subjects.flow_evictions(POOL))
    assert list(flow_pb2.FlowEvictions.FromString(payload).lease_ids) in (["batch1"], ["batch2"])
    assert a.metric("pointsman_flow_controller_evictions_total", inference_pool=POOL) == 1
    task.cancel()
    await settle()


async def test_an_age_goes_before_a_time_of_a_clock_that_may_differ() -> None:
    service = WiredService(queue_ttl_s=10.0)
    service.say(an_endpoint(1, waiting=50))
    asked = flow_pb2.AdmitRequest(lease_id="l1", age_ms=7_500)
    asked.descriptor.pool = POOL
    asked.descriptor.arrived_at = service.clock.wall() + 3_600.0  # its clock has jumped
    task = waiting(service.hook(asked.SerializeToString()))
    async with running(service):
        await service.clock.advance(2.4)
        assert not task.done()
        await service.clock.advance(0.2)
        assert flow_pb2.AdmitResponse.FromString(task.result()).outcome == (
            flow_pb2.OUTCOME_EVICTED_TTL
        )


async def test_a_queue_that_does_not_move_keeps_its_share() -> None:
    a, b = two()
    async with running(a, b):
        for name in ("l1", "l2"):
            a.answer(name)
        task = a.wait("w1")
        worker = b.workers.get(POOL)
        assert worker is not None
        for _ in range(40):
            await a.clock.advance(0.05)
            assert worker.controller.peers.contested(b.clock.monotonic())
        task.cancel()
