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
from pointsman_flow_controller.core.priority_band import PriorityBand


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
        registry, board = worker.controller.registry, worker.controller.peers.board
        bands, top = registry.bands, registry.highest()
        flows = heapq.nlargest(
            self._most_flows,
            (
                (flow.requests, flow.active_at, band.priority, name)
                for band in bands.values()
                for name, flow in band.flows.items()
            ),
        )
        message = flow_pb2.FlowStats(
            envelope=self._stamp.next(subject),
            pool=worker.pool,
            flows=[
                encode_flow(bands[priority].flows[name], priority, now)
                for _, _, priority, name in flows
            ],
            saturation=worker.controller.gate.saturation(now),
            in_flight=self._in_flight(worker.pool),
            bands=[encode_band(bands[priority]) for priority in registry.priorities],
            replicas=board.place()[1],
            share=board.share(top.priority) if top is not None else 1.0,
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
        wait_p50_s=flow.waits.quantile(0.5),
        wait_p99_s=flow.waits.quantile(0.99),
    )


def encode_band(band: PriorityBand) -> flow_pb2.BandStat:
    return flow_pb2.BandStat(
        priority=band.priority,
        queued=band.requests,
        queued_bytes=band.bytes,
        max_queued=band.policy.max_requests,
        max_queued_bytes=band.policy.max_bytes,
        dispatched=band.dispatched,
        left={outcome.value: count for outcome, count in band.left.items()},
        wait_p50_s=band.waits.quantile(0.5),
        wait_p99_s=band.waits.quantile(0.99),
    )
