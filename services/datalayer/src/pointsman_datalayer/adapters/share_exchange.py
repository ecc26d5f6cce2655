"""Tells the other replicas what this one has read, and takes over what they have."""

from google.protobuf.message import DecodeError

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contract_codec import decode_metrics
from pointsman_common.contracts.pool_pb2 import PoolShare
from pointsman_common.envelope import Arrival, EnvelopeStamp, SequenceReader
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.pool_share import ShareChanges
from pointsman_datalayer.core.shards import Shards

log = get_logger("share-exchange")

MAX_POOLS = 1000


class ShareExchange:
    """A part of a service; silent while there is no other replica."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        stamp: EnvelopeStamp,
        registry: EndpointRegistry,
        shards: Shards,
        *,
        interval_s: float,
    ) -> None:
        self._bus, self._clock, self._stamp = bus, clock, stamp
        self._registry, self._shards, self._interval_s = registry, shards, interval_s
        self._changes: dict[str, ShareChanges] = {}
        self._readers: dict[str, SequenceReader] = {}

    async def run(self) -> None:
        end = self._bus.subscribe(subjects.pool_share(subjects.ALL), self.receive)
        try:
            while True:
                if self._shards.others:
                    self.publish()
                await self._clock.sleep(self._interval_s)
        finally:
            end()

    def publish(self) -> None:
        """Tell what is new of one's own share."""
        now, pools = self._clock.monotonic(), self._registry.pools()
        for forgotten in self._changes.keys() - pools.keys():
            del self._changes[forgotten]
        for pool in pools:
            mine = (item for item in self._registry.endpoints(pool) if self._shards.owns(item.uid))
            share = self._changes.setdefault(pool, ShareChanges()).share(pool, mine, now)
            if share is not None:
                subject = subjects.pool_share(pool)
                share.envelope.CopyFrom(self._stamp.next(subject))
                self._bus.publish(subject, share.SerializeToString())

    def receive(self, subject: str, payload: bytes) -> None:
        """Take over what another replica has read."""
        try:
            share = PoolShare.FromString(payload)
        except DecodeError:
            log.debug("unreadable", subject=subject)
            return
        if share.envelope.publisher == self._shards.replica:
            return
        if subject not in self._readers and len(self._readers) >= MAX_POOLS:
            self._readers.clear()
        reader = self._readers.setdefault(subject, SequenceReader())
        if reader.judge(share.envelope) is Arrival.OLD:
            return
        now = self._clock.monotonic()
        for report in share.endpoints:
            self._registry.record_report(
                report.uid,
                decode_metrics(report.metrics, now),
                ready=report.ready,
                reason=report.not_ready_reason,
                epoch=report.epoch,
            )
