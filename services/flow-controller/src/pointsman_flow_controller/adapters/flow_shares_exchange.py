"""Tells the other replicas of this one's demand and service, and hears theirs.

Each 50 ms where something has changed, at once when the first request of a pool waits, and all of
it once a second: who starts later, or has missed something, knows all within a second.
"""

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contracts import flow_pb2
from pointsman_common.envelope import Arrival, EnvelopeStamp, SequenceReader
from pointsman_common.structured_log import get_logger
from pointsman_flow_controller.adapters.dispatch_worker import DispatchWorker
from pointsman_flow_controller.adapters.dispatch_workers import DispatchWorkers
from pointsman_flow_controller.core.share_board import FlowDemand

log = get_logger("flow-shares-exchange")

WHOLE_EVERY_S = 1.0
STILL_THERE_EVERY_S = 0.1
"""While something waits, also without news."""

LEAST_GAP_S = 0.01
"""Between two messages on a pool, however often its first request waits."""


class FlowSharesExchange:
    """A part of the service."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        stamp: EnvelopeStamp,
        workers: DispatchWorkers,
        *,
        interval_s: float,
    ) -> None:
        self._bus, self._clock, self._stamp, self._workers = bus, clock, stamp, workers
        self._interval_s = interval_s
        self._reader = SequenceReader()
        self._whole_at: dict[str, float] = {}
        """When all was told last, by pool; absent: never, or the bus was away since."""
        self._told_at: dict[str, float] = {}
        workers.on_demand(self._demand_begins)

    async def run(self) -> None:
        end = self._bus.subscribe(subjects.flow_shares(subjects.ALL), self._heard)
        self._bus.on_reconnect(self._whole_at.clear)
        try:
            while True:
                await self._clock.sleep(self._interval_s)
                self._exchange()
        finally:
            end()
            for worker in self._workers.all():
                self._publish(worker, leaving=True)

    def _exchange(self) -> None:
        connected, now = self._bus.connected, self._clock.monotonic()
        for worker in self._workers.all():
            worker.controller.peers.cut_off = not connected
            if connected and self._has_to_tell(worker, now):
                self._publish(worker)
        pools = {worker.pool for worker in self._workers.all()}
        for gone in self._told_at.keys() - pools:
            del self._told_at[gone]
            self._whole_at.pop(gone, None)

    def _demand_begins(self, worker: DispatchWorker) -> None:
        told_at = self._told_at.get(worker.pool, float("-inf"))
        if self._bus.connected and self._clock.monotonic() - told_at >= LEAST_GAP_S:
            self._publish(worker)

    def _has_to_tell(self, worker: DispatchWorker, now: float) -> bool:
        if worker.controller.peers.tally.has_news or self._is_due(worker, now):
            return True
        # Whose queue does not move must be heard all the same: silence means that it is gone.
        return (
            bool(worker.waiting)
            and now - self._told_at.get(worker.pool, 0.0) >= STILL_THERE_EVERY_S
        )

    def _is_due(self, worker: DispatchWorker, now: float) -> bool:
        return now - self._whole_at.get(worker.pool, float("-inf")) >= WHOLE_EVERY_S

    def _publish(self, worker: DispatchWorker, *, leaving: bool = False) -> None:
        now, pool = self._clock.monotonic(), worker.pool
        whole = self._is_due(worker, now)
        flows = worker.controller.peers.take_own(self._stamp.epoch, now, whole=whole)
        subject = subjects.flow_shares(pool)
        message = flow_pb2.FlowShares(
            envelope=self._stamp.next(subject),
            pool=pool,
            flows=[encode_share(flow) for flow in flows],
            whole=whole,
            leaving=leaving,
        )
        self._bus.publish(subject, message.SerializeToString())
        self._told_at[pool] = now
        if whole:
            self._whole_at[pool] = now

    def _heard(self, subject: str, payload: bytes) -> None:
        try:
            message = flow_pb2.FlowShares.FromString(payload)
        except DecodeError as error:
            log.warning("flow-shares-unreadable", subject=subject, error=str(error))
            return
        replica = message.envelope.publisher
        if replica == self._stamp.publisher:
            return
        worker = self._workers.get(message.pool)
        if worker is None or self._judged_old(message):
            return
        if message.leaving:
            worker.peer_left(replica)
        else:
            worker.heard_shares(
                replica,
                message.envelope.epoch,
                list(decode_shares(message.flows)),
                whole=message.whole,
            )

    def _judged_old(self, message: flow_pb2.FlowShares) -> bool:
        envelope = message.envelope
        # A publisher counts per subject, so that each pool's messages are followed by themselves.
        mark = type(envelope)(
            publisher=f"{envelope.publisher} {message.pool}",
            epoch=envelope.epoch,
            sequence=envelope.sequence,
        )
        return self._reader.judge(mark) is Arrival.OLD


def encode_share(flow: FlowDemand) -> flow_pb2.FlowShare:
    return flow_pb2.FlowShare(
        fairness_id=flow.fairness_id,
        priority=flow.priority,
        queued=flow.queued,
        requests=flow.requests,
        prompt_tokens=flow.prompt_tokens,
        output_tokens=flow.output_tokens,
    )


def decode_shares(shares: Iterable[flow_pb2.FlowShare]) -> Iterable[FlowDemand]:
    for share in shares:
        yield FlowDemand(
            share.priority,
            share.fairness_id,
            share.queued,
            share.requests,
            share.prompt_tokens,
            share.output_tokens,
        )
