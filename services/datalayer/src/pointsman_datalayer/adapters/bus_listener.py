"""Listens to what the layers tell of themselves: decisions, queues, shadows and heartbeats."""

import asyncio
from collections.abc import Callable

from google.protobuf.message import DecodeError

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contracts.events_pb2 import LayerHeartbeat, ShadowReport
from pointsman_common.contracts.flow_pb2 import FlowStats
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt
from pointsman_common.decision_receipts import unfold_receipts
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.core.decision_log import DecisionLog
from pointsman_datalayer.core.layer_roster import LayerRoster

log = get_logger("bus-listener")

DecisionListener = Callable[[DecisionReceipt, bytes], None]


class BusListener:
    """A part of a service. `on_decision` gets each receipt, and the bytes to store it as."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        decisions: DecisionLog,
        roster: LayerRoster,
        *,
        on_decision: DecisionListener,
    ) -> None:
        self._bus, self._clock = bus, clock
        self._decisions, self._roster, self._on_decision = decisions, roster, on_decision

    async def run(self) -> None:
        ends = [
            self._bus.subscribe(subject, self.receive)
            for subject in (
                subjects.decision(subjects.ALL),
                subjects.flow_stats(subjects.ALL),
                subjects.shadow(subjects.ALL, subjects.ALL),
                subjects.HEARTBEAT,
            )
        ]
        try:
            await asyncio.Event().wait()
        finally:
            for end in ends:
                end()

    def receive(self, subject: str, payload: bytes) -> None:
        """Take one message; what cannot be read is left out."""
        now = self._clock.monotonic()
        try:
            if subject == subjects.HEARTBEAT:
                self._roster.heard(LayerHeartbeat.FromString(payload), now)
            elif subject.endswith(".decision"):
                self._decision(subject, payload)
            elif subject.split(".")[3:4] == ["shadow"]:
                self._roster.told_shadow(_of_its_subject(payload, subject), now)
            else:
                self._roster.told_flows(FlowStats.FromString(payload), now)
        except DecodeError:
            log.debug("unreadable", subject=subject)

    def _decision(self, subject: str, payload: bytes) -> None:
        for receipt in unfold_receipts(payload):
            if not receipt.descriptor.pool:
                receipt.descriptor.pool = subjects.pool_of(subject)
            self._decisions.add(receipt, receipt.ByteSize())
            self._on_decision(receipt, self._decisions.stored_form(receipt))


def _of_its_subject(payload: bytes, subject: str) -> ShadowReport:
    report = ShadowReport.FromString(payload)
    report.pool = report.pool or subjects.pool_of(subject)
    return report
