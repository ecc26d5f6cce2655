"""Tells the bus, about once a second, that this replica lives and what it is."""

from collections.abc import Callable, Mapping, Sequence

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contracts import events_pb2
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.envelope import EnvelopeStamp

NOTHING: Mapping[str, float] = {}


class Heartbeat:
    """A part of a service.

    Silent while the bus is away: a beat that waited would tell of the past, and take the room of
    events in the bus's buffer.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        stamp: EnvelopeStamp,
        *,
        describe: Callable[[], DescribeResponse],
        address: Callable[[], str],
        admin_url: Callable[[], str],
        pools: Callable[[], Sequence[str]],
        gauges: Callable[[], Mapping[str, float]] = lambda: NOTHING,
        open_leases: Callable[[], int] = lambda: 0,
        interval_s: float = 1.0,
    ) -> None:
        self._bus, self._clock, self._stamp = bus, clock, stamp
        self._describe, self._address, self._admin_url = describe, address, admin_url
        self._pools, self._gauges, self._open_leases = pools, gauges, open_leases
        self._interval_s, self._draining = interval_s, False

    async def run(self) -> None:
        while True:
            if self._bus.connected:
                self._beat()
                await self._clock.sleep(self._interval_s)
            else:
                await self._clock.sleep(min(0.1, self._interval_s))

    async def drain(self, grace_s: float) -> None:
        """Say at once that the replica drains; it goes on beating until it ends."""
        del grace_s
        self._draining = True
        if self._bus.connected:
            self._beat()

    def _beat(self) -> None:
        beat = events_pb2.LayerHeartbeat(
            envelope=self._stamp.next(subjects.HEARTBEAT),
            description=self._describe(),
            address=self._address(),
            admin_url=self._admin_url(),
            pools=self._pools(),
            draining=self._draining,
            open_leases=self._open_leases(),
            gauges=self._gauges(),
        )
        self._bus.publish(subjects.HEARTBEAT, beat.SerializeToString())
