"""Counts the demand of the pools from what the edges tell of requests."""

from pointsman_common.clock import Clock
from pointsman_common.contracts.events_pb2 import RequestFinished, RequestPicked, RequestServing
from pointsman_common.in_flight import LeaseTable
from pointsman_datalayer.core.pool_demand import DemandBook


class DemandMeter:
    """For a LeaseSubscriber: `picked` and `serving` are called when the lease table has the event,
    `finished` before."""

    def __init__(self, clock: Clock, leases: LeaseTable, demand: DemandBook) -> None:
        self._clock, self._leases, self._demand = clock, leases, demand

    def picked(self, event: RequestPicked) -> None:
        lease = self._leases.get(event.lease.lease_id)
        if lease is not None:
            ahead = self._leases.load(lease.prefill_endpoint or lease.endpoint).prefill_tokens
            self._demand.picked(lease, ahead_tokens=ahead, now=self._clock.monotonic())

    def serving(self, event: RequestServing) -> None:
        self._demand.first_token(event.lease_id, event.ttft_ms / 1e3)

    def finished(self, event: RequestFinished) -> None:
        known = event.HasField
        self._demand.finished(
            event.lease_id,
            prompt_tokens=event.prompt_tokens if known("prompt_tokens") else None,
            cached_tokens=event.cached_tokens if known("cached_tokens") else None,
            output_tokens=event.output_tokens if known("output_tokens") else None,
            now=self._clock.monotonic(),
        )
