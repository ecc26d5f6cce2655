"""Serves flow.v1: a call is answered when its request leaves.

Benchmark: tests/load/bench_admit.py.
"""

import asyncio
import math
from collections.abc import Awaitable, Mapping

from pointsman_common.clock import Clock
from pointsman_common.contracts import flow_pb2
from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.error_mapping import rejection
from pointsman_common.rpc_server import RpcServer
from pointsman_flow_controller.adapters.dispatch_worker import DispatchWorker
from pointsman_flow_controller.adapters.dispatch_workers import DispatchWorkers
from pointsman_flow_controller.core.flow_policy import FlowPolicy
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.queue_exit import arrival
from pointsman_flow_controller.core.queue_outcome import AT_ONCE, REFUSALS, QueueExit, QueueOutcome

ADMIT = "/pointsman.flow.v1.FlowController/Admit"

OUTCOMES: Mapping[QueueOutcome, flow_pb2.Outcome] = {
    QueueOutcome.DISPATCHED: flow_pb2.OUTCOME_DISPATCHED,
    QueueOutcome.REJECTED_CAPACITY: flow_pb2.OUTCOME_REJECTED_CAPACITY,
    QueueOutcome.REJECTED_NO_ENDPOINTS: flow_pb2.OUTCOME_REJECTED_NO_ENDPOINTS,
    QueueOutcome.REJECTED_SATURATED: flow_pb2.OUTCOME_REJECTED_SATURATED,
    QueueOutcome.REJECTED_LIMIT: flow_pb2.OUTCOME_REJECTED_LIMIT,
    QueueOutcome.EVICTED_TTL: flow_pb2.OUTCOME_EVICTED_TTL,
    QueueOutcome.EVICTED_NO_ENDPOINTS: flow_pb2.OUTCOME_EVICTED_NO_ENDPOINTS,
    QueueOutcome.EVICTED_CONTEXT_CANCELLED: flow_pb2.OUTCOME_EVICTED_CONTEXT_CANCELLED,
    QueueOutcome.EVICTED_PRIORITY: flow_pb2.OUTCOME_EVICTED_PRIORITY,
    QueueOutcome.EVICTED_OTHER: flow_pb2.OUTCOME_EVICTED_OTHER,
}
_LONGEST_MS = 0xFFFFFFFF
_ADMITTED_AT_ONCE = flow_pb2.AdmitResponse(
    admitted=flow_pb2.Admitted(), outcome=flow_pb2.OUTCOME_DISPATCHED
).SerializeToString()
"""Most answers by far."""


class AdmitHook:
    """The hook's handler."""

    def __init__(self, workers: DispatchWorkers, clock: Clock) -> None:
        self._workers, self._clock = workers, clock
        self._without_lease = 0

    def __call__(self, message: bytes) -> bytes | Awaitable[bytes]:
        asked = flow_pb2.AdmitRequest.FromString(message)
        pool = asked.descriptor.pool
        worker = self._workers.get(pool)
        if worker is None:
            return _unknown_pool(pool)
        request = self._request(asked, worker.controller.policy)
        way_out = worker.admit(request)
        if isinstance(way_out, QueueExit):
            return encode_exit(way_out)
        return _answer_when_left(worker, request, way_out)

    def _request(self, asked: flow_pb2.AdmitRequest, policy: FlowPolicy) -> QueuedRequest:
        lease_id = asked.lease_id
        if not lease_id:
            # Nobody will tell of it: it is counted until it lapses.
            self._without_lease += 1
            lease_id = f"admit/{id(self):x}/{self._without_lease}"
        now, wall = self._clock.monotonic(), self._clock.wall()
        arrived_at_wall = asked.descriptor.arrived_at
        if asked.HasField("age_ms"):  # needs no clock in common
            arrived_at_wall = wall - asked.age_ms / 1e3
        return queued_request(
            asked.descriptor,
            policy,
            lease_id=lease_id,
            now=now,
            wall=wall,
            arrived_at_wall=arrived_at_wall,
        )


async def _answer_when_left(
    worker: DispatchWorker, request: QueuedRequest, leaves: "asyncio.Future[QueueExit]"
) -> bytes:
    try:
        return encode_exit(await leaves)
    except asyncio.CancelledError:
        worker.cancel(request)
        raise


class FlowRpcServer:
    """A part of the service: the RPC server, which on the way out answers those who still wait."""

    def __init__(self, server: RpcServer, workers: DispatchWorkers, clock: Clock) -> None:
        self._server, self._workers, self._clock = server, workers, clock

    async def run(self) -> None:
        await self._server.run()

    async def drain(self, grace_s: float) -> None:
        """Go on letting go what fits; refuse who is left shortly before the end."""
        async with asyncio.TaskGroup() as group:
            refusing = group.create_task(self._refuse_after(max(grace_s - 1.0, grace_s / 2)))
            await self._server.drain(grace_s)
            refusing.cancel()

    async def _refuse_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._workers.shut_down()


def queued_request(
    descriptor: RequestDescriptor,
    policy: FlowPolicy,
    *,
    lease_id: str,
    now: float,
    wall: float,
    arrived_at_wall: float,
) -> QueuedRequest:
    """A request as the queues see it. A limit of its own holds with and without endpoints."""
    ttl_s, no_endpoint_ttl_s = policy.ttl_s, policy.no_endpoint_ttl_s
    if own_s := descriptor.queue_ttl_ms / 1e3:
        ttl_s, no_endpoint_ttl_s = own_s, min(own_s, no_endpoint_ttl_s)
    slo_s = descriptor.ttft_slo_ms / 1e3 if descriptor.ttft_slo_ms else None
    return QueuedRequest(
        lease_id=lease_id,
        fairness_id=descriptor.fairness_id or "default-flow",
        priority=descriptor.priority,
        body_bytes=descriptor.body_bytes,
        prompt_tokens=descriptor.prompt_tokens,
        max_output_tokens=descriptor.max_output_tokens,
        arrived_at=arrival(
            now=now,
            wall=wall,
            arrived_at_wall=arrived_at_wall,
            ttl_s=max(ttl_s, no_endpoint_ttl_s),
        ),
        ttl_s=ttl_s,
        no_endpoint_ttl_s=no_endpoint_ttl_s,
        ttft_slo_s=slo_s,
        model=descriptor.model,
        target_model=descriptor.target_model,
    )


def encode_exit(way_out: QueueExit) -> bytes:
    """An AdmitResponse."""
    if way_out is AT_ONCE:
        return _ADMITTED_AT_ONCE
    if way_out.outcome is QueueOutcome.DISPATCHED:
        admitted = flow_pb2.Admitted(
            queued_ms=_milliseconds(way_out.queued_s), unguarded=way_out.unguarded
        )
        reply = flow_pb2.AdmitResponse(admitted=admitted, outcome=flow_pb2.OUTCOME_DISPATCHED)
        return reply.SerializeToString()
    refusal = REFUSALS[way_out.outcome]
    return flow_pb2.AdmitResponse(
        rejection=rejection(
            refusal.code,
            refusal.message,
            reason=refusal.reason,
            retry_after_s=way_out.retry_after_s(),
        ),
        outcome=OUTCOMES[way_out.outcome],
        queue_position=way_out.queue_position,
        estimated_wait_ms=_milliseconds(way_out.estimated_wait_s or 0.0),
    ).SerializeToString()


def _milliseconds(seconds: float) -> int:
    return min(math.ceil(seconds * 1e3), _LONGEST_MS)


def _unknown_pool(pool: str) -> bytes:
    return flow_pb2.AdmitResponse(
        rejection=rejection("ServiceUnavailable", f'pool "{pool[:200]}" is not known'),
        outcome=flow_pb2.OUTCOME_REJECTED_OTHER,
    ).SerializeToString()
