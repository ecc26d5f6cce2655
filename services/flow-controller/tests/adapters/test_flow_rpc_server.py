"""The served hook over a real loopback connection."""

import asyncio

from pointsman_common.contracts import flow_pb2
from pointsman_common.identity import description
from pointsman_common.rpc_server import RpcServer
from pointsman_common.testing.builders import a_descriptor, an_endpoint
from pointsman_common.testing.virtual_clock import settle
from pointsman_flow_controller.adapters.flow_rpc_server import ADMIT, FlowRpcServer
from pointsman_flow_controller.testing.wired_service import WiredService
from wire import Channel


def a_request(lease_id: str) -> bytes:
    request = flow_pb2.AdmitRequest(lease_id=lease_id, descriptor=a_descriptor())
    return request.SerializeToString()


class Served:
    def __init__(self, service: WiredService) -> None:
        self.service = service
        self.rpc = RpcServer(
            "127.0.0.1:0",
            {ADMIT: service.hook},
            describe=lambda: description("flow-controller", "test"),
            ready=lambda: True,
        )
        self.part = FlowRpcServer(self.rpc, service.workers, service.clock)

    async def __aenter__(self) -> "Served":
        self.running = asyncio.ensure_future(self.part.run())
        while not self.rpc.bound:
            await settle()
        self.channel = Channel(self.rpc.bound[0])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        self.running.cancel()
        await asyncio.wait([self.running])

    def ask(self, lease_id: str) -> "asyncio.Task[bytes]":
        call = self.channel.unary(ADMIT, a_request(lease_id), timeout_s=20)
        return asyncio.ensure_future(call)

    async def until_waiting(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.service.queue_size() != count:
                await settle()


async def test_a_call_is_answered_when_its_request_goes() -> None:
    async with Served(WiredService()) as served:
        served.service.say(an_endpoint(1, waiting=50))
        call = served.ask("l1")
        await served.until_waiting(1)
        served.service.say(an_endpoint(1))
        assert flow_pb2.AdmitResponse.FromString(await call).HasField("admitted")


async def test_a_cancelled_call_leaves_the_queue() -> None:
    async with Served(WiredService()) as served:
        served.service.say(an_endpoint(1, waiting=50))
        call = served.ask("l1")
        await served.until_waiting(1)
        call.cancel()
        await served.until_waiting(0)


async def test_a_drain_serves_who_waits_and_refuses_the_rest_before_its_end() -> None:
    async with Served(WiredService()) as served:
        service = served.service
        service.say(an_endpoint(1, waiting=50))
        calls = [served.ask(f"l{index}") for index in range(2)]
        await served.until_waiting(2)
        draining = asyncio.ensure_future(served.part.drain(30.0))
        await settle()
        service.say(an_endpoint(1, waiting=4))  # room for one
        await served.until_waiting(1)
        await service.clock.advance(28.9)
        assert service.queue_size() == 1
        await service.clock.advance(0.1)
        await draining
        answers = [flow_pb2.AdmitResponse.FromString(await call) for call in calls]
        outcomes = sorted(answer.outcome for answer in answers)
        assert outcomes == [flow_pb2.OUTCOME_DISPATCHED, flow_pb2.OUTCOME_EVICTED_OTHER]
