"""Tells the edges which requests in flight they are to end."""

from collections.abc import Sequence

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.contracts import flow_pb2
from pointsman_common.envelope import EnvelopeStamp


class EvictionPublisher:
    def __init__(self, bus: Bus, stamp: EnvelopeStamp) -> None:
        self._bus, self._stamp = bus, stamp

    def publish(self, pool: str, lease_ids: Sequence[str]) -> None:
        """Never waits. A message that is lost is made good by the next choice."""
        if not self._bus.connected:
            return  # when it is back, others may run
        subject = subjects.flow_evictions(pool)
        message = flow_pb2.FlowEvictions(
            envelope=self._stamp.next(subject), pool=pool, lease_ids=lease_ids
        )
        self._bus.publish(subject, message.SerializeToString())
