"""Tells the bus of this replica's queues, pool by pool."""

import heapq
from collections.abc import Callable

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contracts import flow_pb2
from pointsman_common.envelope import EnvelopeStamp
from pointsman_flow_controller.adapters.dispatch_worker import DispatchWorker
from pointsman_flow_controller.adapters.dispatch_workers import DispatchWorkers
from pointsman_flow_controller.core.flow_queue import FlowQueue


class FlowStatsPublisher:
    """A part of the service. Of a pool with very many flows only the first `most_flows` are told
    of: the longest queues, then those that were busy last."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        stamp: EnvelopeStamp,
        workers: DispatchWorkers,
        in_flight: Callable[[str], int],
        *,
        interval_s: float,
        most_flows: int,
    ) -> None:
        self._bus, self._clock, self._stamp, self._workers = bus, clock, stamp, workers
        self._in_flight, self._interval_s, self._most_flows = in_flight, interval_s, most_flows

    async def run(self) -> None:
        while True:
            await self._clock.sleep(self._interval_s)
            if self._bus.connected:  # else they would tell of the past when the bus is back
                for worker in self._workers.all():
                    self._publish(worker)

    def _publish(self, worker: DispatchWorker) -> None:
        now = self._clock.monotonic()
        subject = subjects.flow_stats(worker.pool)
        flows = heapq.nlargest(
            self._most_flows,
            (
                (flow.requests, flow.active_at, band.priority, name)
                for band in worker.controller.registry.bands.values()
                for name, flow in band.flows.items()
            ),
        )
        bands = worker.controller.registry.bands
        message = flow_pb2.FlowStats(
            envelope=self._stamp.next(subject),
            pool=worker.pool,
            flows=[
                encode_flow(bands[priority].flows[name], priority, now)
                for _, _, priority, name in flows
            ],
            saturation=worker.controller.gate.saturation(now),
            in_flight=self._in_flight(worker.pool),
        )
        self._bus.publish(subject, message.SerializeToString())


def encode_flow(flow: FlowQueue, priority: int, now: float) -> flow_pb2.FlowStat:
    head = flow.head()
    return flow_pb2.FlowStat(
        fairness_id=flow.fairness_id,
        priority=priority,
        queued=flow.requests,
        queued_bytes=flow.bytes,
        dispatched=flow.dispatched,
        left={outcome.value: count for outcome, count in flow.left.items()},
        oldest_wait_s=0.0 if head is None else max(0.0, now - head.arrived_at),
        served_tokens=flow.served_tokens,
    )
