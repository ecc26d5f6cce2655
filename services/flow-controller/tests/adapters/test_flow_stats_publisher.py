import asyncio

from pointsman_common import subjects
from pointsman_common.contracts import flow_pb2
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_common.testing.virtual_clock import settle
from pointsman_flow_controller.adapters.flow_stats_publisher import FlowStatsPublisher
from pointsman_flow_controller.testing.wired_service import WiredService


def publisher(service: WiredService, *, most_flows: int = 1_000) -> FlowStatsPublisher:
    return FlowStatsPublisher(
        service.bus,
        service.clock,
        EnvelopeStamp("flow-controller/test", service.clock),
        service.workers,
        service.leases.in_flight,
        interval_s=1.0,
        most_flows=most_flows,
    )


async def published(service: WiredService, part: FlowStatsPublisher) -> list[flow_pb2.FlowStats]:
    running = asyncio.ensure_future(part.run())
    await service.clock.advance(1.0)
    running.cancel()
    sent = service.bus.sent(subjects.flow_stats(POOL))
    return [flow_pb2.FlowStats.FromString(payload) for payload in sent]


async def test_the_queues_are_told_of_flow_by_flow() -> None:
    service = WiredService()
    service.answer("went", fairness_id="A")
    service.say(an_endpoint(1, waiting=50))
    shed = service.answer("shed", fairness_id="B", priority=-1)
    assert shed.HasField("rejection")
    waits = service.wait("waits", fairness_id="A", body_bytes=77)
    [stats] = await published(service, publisher(service))
    flows = {(flow.fairness_id, flow.priority): flow for flow in stats.flows}
    waiting, refused = flows["A", 0], flows["B", -1]
    assert (waiting.queued, waiting.queued_bytes, waiting.dispatched) == (1, 77, 1)
    assert (waiting.oldest_wait_s, waiting.served_tokens) == (1.0, 100)
    assert dict(refused.left) == {"RejectedSaturated": 1}
    assert (stats.pool, stats.in_flight, stats.envelope.sequence) == (POOL, 1, 1)
    assert stats.saturation >= 10.0
    [zero, negative] = stats.bands
    assert (zero.priority, zero.queued, zero.queued_bytes, zero.dispatched) == (0, 1, 77, 1)
    assert (zero.max_queued, zero.max_queued_bytes) == (5_000, 1_000_000_000)
    assert (negative.priority, dict(negative.left)) == (-1, {"RejectedSaturated": 1})
    assert (stats.replicas, stats.share) == (1, 1.0)
    waits.cancel()
    await settle()


async def test_of_many_flows_the_longest_queues_are_told_of() -> None:
    service = WiredService()
    service.say(an_endpoint(1, waiting=50))
    tasks = [
        service.wait(f"{flow}{index}", fairness_id=flow)
        for flow, count in (("short", 1), ("longest", 3), ("long", 2))
        for index in range(count)
    ]
    [stats] = await published(service, publisher(service, most_flows=2))
    assert [flow.fairness_id for flow in stats.flows] == ["longest", "long"]
    for task in tasks:
        task.cancel()
    await settle()


async def test_nothing_is_told_while_the_bus_is_away() -> None:
    service = WiredService()
    service.answer("l1")
    service.bus.take_away()
    assert await published(service, publisher(service)) == []


async def test_the_waits_of_the_latest_dispatches_are_told_of() -> None:
    service = WiredService()
    wall = service.clock.wall()
    for index in range(3):
        service.answer(f"l{index}", fairness_id="A", arrived_at=wall - 2.0)
    [stats] = await published(service, publisher(service))
    for told in (stats.flows[0], stats.bands[0]):
        assert 2.0 <= told.wait_p50_s <= told.wait_p99_s <= 2.5
