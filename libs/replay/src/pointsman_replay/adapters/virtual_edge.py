"""An edge as the bus knows it: owns the leases, tells of them, answers who asks for them."""

from dataclasses import dataclass

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contract_codec import pack_block_hashes
from pointsman_common.contracts import events_pb2
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.envelope import EnvelopeStamp
from pointsman_ext_proc.core.published_blocks import PublishedBlocks
from pointsman_replay.core.trace import TraceRequest
from pointsman_scheduler.core.picking import Pick
from pointsman_scheduler.core.scheduler import Decision

HEARTBEAT_S = 1.0
REPUBLISH_BLOCKS_S = 30.0
"""As the edge's own setting at its default."""

EDGE = "ext-proc/replay"


@dataclass(slots=True)
class _OpenLease:
    message: events_pb2.Lease
    opened_at: float


class VirtualEdge:
    """Each event is a message of its own: batches of an edge last less than a bus's delay."""

    def __init__(self, bus: Bus, clock: Clock, pool: str) -> None:
        self._bus, self._clock, self._pool = bus, clock, pool
        self._stamp = EnvelopeStamp(EDGE, clock)
        self._blocks = PublishedBlocks(period_s=REPUBLISH_BLOCKS_S)
        self._open: dict[str, _OpenLease] = {}
        self._subjects = {
            "picked": subjects.request_picked(pool),
            "serving": subjects.request_serving(pool),
            "finished": subjects.request_finished(pool),
        }

    async def run(self) -> None:
        self._bus.respond(subjects.leases_query(self._pool), self._snapshot)
        while True:
            beat = events_pb2.LayerHeartbeat(
                envelope=self._stamp.next(subjects.HEARTBEAT),
                description=DescribeResponse(layer="ext-proc"),
                pools=[self._pool],
                open_leases=len(self._open),
            )
            self._bus.publish(subjects.HEARTBEAT, beat.SerializeToString())
            await self._clock.sleep(HEARTBEAT_S)

    def open(self, pick: Pick, decision: Decision, request: TraceRequest) -> None:
        """The request goes to its endpoint now."""
        descriptor, now = pick.descriptor, self._clock.monotonic()
        primary = decision.endpoints[0]
        lease = events_pb2.Lease(
            lease_id=pick.lease_id,
            edge=EDGE,
            pool=self._pool,
            endpoint_uid=primary.uid,
            endpoint_address=primary.address,
            request_id=descriptor.request_id,
            decision_id=pick.decision_id,
            model=descriptor.target_model,
            fairness_id=descriptor.fairness_id,
            prompt_tokens=descriptor.prompt_tokens,
            prefill_tokens=pick.prefill_tokens,
            expected_output_tokens=pick.expected_output_tokens,
        )
        self._open[pick.lease_id] = _OpenLease(lease, now)
        event = events_pb2.RequestPicked(lease=lease, block_tokens=descriptor.block_tokens)
        if hashes := request.block_hashes:
            event.first_block = self._blocks.first_new(primary.uid, hashes, now)
            event.prompt_block_hashes = pack_block_hashes(hashes[event.first_block :])
        self._tell("picked", picked=[event])

    def first_token(self, lease_id: str) -> None:
        lease = self._open[lease_id]
        lease.message.serving = True
        event = events_pb2.RequestServing(
            lease_id=lease_id,
            endpoint_uid=lease.message.endpoint_uid,
            endpoint_address=lease.message.endpoint_address,
            ttft_ms=round((self._clock.monotonic() - lease.opened_at) * 1e3),
        )
        self._tell("serving", serving=[event])

    def finished(self, lease_id: str, *, output_tokens: int) -> None:
        lease = self._open.pop(lease_id)
        event = events_pb2.RequestFinished(
            lease_id=lease_id,
            endpoint_uid=lease.message.endpoint_uid,
            endpoint_address=lease.message.endpoint_address,
            http_status=200,
            prompt_tokens=lease.message.prompt_tokens,
            output_tokens=output_tokens,
            duration_ms=round((self._clock.monotonic() - lease.opened_at) * 1e3),
            cause="finished",
            model=lease.message.model,
            fairness_id=lease.message.fairness_id,
        )
        self._tell("finished", finished=[event])

    def _tell(
        self,
        kind: str,
        *,
        picked: list[events_pb2.RequestPicked] | None = None,
        serving: list[events_pb2.RequestServing] | None = None,
        finished: list[events_pb2.RequestFinished] | None = None,
    ) -> None:
        subject = self._subjects[kind]
        message = events_pb2.RequestEvents(
            envelope=self._stamp.next(subject),
            pool=self._pool,
            picked=picked,
            serving=serving,
            finished=finished,
        )
        self._bus.publish(subject, message.SerializeToString())

    def _snapshot(self, subject: str, payload: bytes) -> bytes:
        del payload
        now = self._clock.monotonic()
        snapshot = events_pb2.LeaseSnapshot(envelope=self._stamp.next(subject), pool=self._pool)
        for lease in self._open.values():
            told = snapshot.leases.add()
            told.CopyFrom(lease.message)
            told.age_ms = round((now - lease.opened_at) * 1e3)
        for kind, name in self._subjects.items():
            snapshot.sequences[kind] = self._stamp.last(name).sequence
        return snapshot.SerializeToString()
