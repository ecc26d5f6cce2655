"""Ends the requests in flight of this edge whose room a flow controller needs."""

import asyncio
from collections.abc import Callable, Container, Mapping
from typing import Protocol

from google.protobuf.message import DecodeError

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.contracts.flow_pb2 import FlowEvictions
from pointsman_ext_proc.core.eviction import Eviction

MOST_AT_ONCE = 256
"""Leases of one message; the flow controller asks again for the others."""


class Evictable(Protocol):
    @property
    def answered(self) -> bool: ...

    def evict(self) -> None: ...


class EvictionSubscriber:
    """A part of a service. `streams` are the open ones by their lease, `leases` the open leases of
    this edge; `on_eviction` sees each request that was to end."""

    def __init__(
        self,
        bus: Bus,
        pool: str,
        streams: Mapping[str, Evictable],
        leases: Container[str],
        *,
        on_eviction: Callable[[Eviction], None] = lambda _: None,
    ) -> None:
        self._bus, self._pool = bus, pool
        self._streams, self._leases, self._on_eviction = streams, leases, on_eviction

    async def run(self) -> None:
        end = self._bus.subscribe(subjects.flow_evictions(self._pool), self._on_evictions)
        try:
            await asyncio.Event().wait()
        finally:
            end()

    def _on_evictions(self, _: str, payload: bytes) -> None:
        try:
            message = FlowEvictions.FromString(payload)
        except DecodeError:
            return
        for lease_id in message.lease_ids[:MOST_AT_ONCE]:
            stream = self._streams.get(lease_id)
            if stream is not None:
                outcome: Eviction = "cut" if stream.answered else "refused"
                stream.evict()
                self._on_eviction(outcome)
            elif lease_id in self._leases:
                self._on_eviction("out-of-reach")
