"""A lease that this edge has open, and the events and measurements that it gives rise to."""

from dataclasses import dataclass

import msgspec

from pointsman_common.contracts import events_pb2
from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_ext_proc.core.exchange_events import Dispatched, Usage

MAX_MS = 0xFFFFFFFF


def milliseconds(seconds: float) -> int:
    return min(max(0, round(seconds * 1e3)), MAX_MS)


@dataclass(slots=True)
class OpenLease:
    """Times are monotonic seconds of the edge."""

    dispatched: Dispatched
    arrived_at: float
    """When the request's headers came."""
    opened_at: float
    request_bytes: int = 0
    uid: str = ""
    address: str = ""
    first_chunk_at: float | None = None
    streaming: bool = False
    serving: bool = False
    """Its first token was told of."""

    @property
    def lease_id(self) -> str:
        return self.dispatched.lease_id

    @property
    def descriptor(self) -> RequestDescriptor:
        return self.dispatched.descriptor

    def as_message(self, *, edge: str, pool: str, now: float) -> events_pb2.Lease:
        descriptor, picked = self.descriptor, self.dispatched.picked
        return events_pb2.Lease(
            lease_id=self.lease_id,
            edge=edge,
            pool=pool,
            endpoint_uid=self.uid,
            endpoint_address=self.address,
            request_id=descriptor.request_id,
            decision_id=picked.decision_id,
            model=descriptor.target_model,
            fairness_id=descriptor.fairness_id,
            priority=descriptor.priority,
            prompt_tokens=descriptor.prompt_tokens,
            prefill_tokens=picked.prefill_tokens,
            prefill_endpoint_uid=picked.prefill.uid,
            expected_output_tokens=picked.expected_output_tokens,
            serving=self.serving,
            age_ms=milliseconds(now - self.opened_at),
        )


class LeaseEnd(msgspec.Struct, frozen=True):
    http_status: int
    """0: there was no answer."""
    cause: str
    """As in RequestFinished."""
    response_bytes: int = 0
    usage: Usage | None = None


def finished_event(lease: OpenLease, end: LeaseEnd, now: float) -> events_pb2.RequestFinished:
    usage = end.usage or Usage()
    event = events_pb2.RequestFinished(
        lease_id=lease.lease_id,
        endpoint_uid=lease.uid,
        endpoint_address=lease.address,
        http_status=end.http_status,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        duration_ms=milliseconds(now - lease.opened_at),
        cause=end.cause,
        model=lease.descriptor.target_model,
        fairness_id=lease.descriptor.fairness_id,
    )
    if lease.first_chunk_at is not None:
        event.ttft_ms = milliseconds(lease.first_chunk_at - lease.opened_at)
    return event
