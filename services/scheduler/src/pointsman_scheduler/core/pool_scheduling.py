"""One pool as the scheduler keeps it: its endpoints as columns, its prefix index, its policy."""

from collections.abc import Sequence

import numpy as np

from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.endpoint import Endpoint
from pointsman_common.in_flight import LeaseTable
from pointsman_common.pool_view import PoolRecord
from pointsman_scheduler.core.arrays import IntArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.config import Catalogue, SchedulingConfig, compile_config
from pointsman_scheduler.core.endpoint_table import EndpointTable
from pointsman_scheduler.core.prefix_index import PrefixIndex
from pointsman_scheduler.core.scheduling_request import SchedulingRequest, request_of


class PoolScheduling:
    """`fallback` is the configuration in force while the pool publishes none of its own."""

    def __init__(
        self,
        leases: LeaseTable,
        catalogue: Catalogue,
        fallback: str,
        *,
        fresh_s: float,
        half_life_s: float,
        max_blocks: int,
    ) -> None:
        self._leases, self._catalogue, self._fallback = leases, catalogue, fallback
        self._fresh_s, self._half_life_s, self._max_blocks = fresh_s, half_life_s, max_blocks
        self.table = EndpointTable(leases.load, fresh_s=fresh_s, half_life_s=half_life_s)
        self.config: SchedulingConfig = compile_config(fallback, catalogue)
        self.index = self._new_index()
        self._published = ""
        self._slots: IntArray = np.zeros(0, dtype=np.int64)
        self._stale_slots = True

    def apply_config(self, published: str) -> None:
        """Take over what the pool publishes; nothing (`""`) means the fallback.

        What cannot be used leaves the old configuration in force, and is not tried again.

        Raises:
            SettingsError: it cannot be used.
        """
        if published == self._published:
            return
        self._published = published
        before = self.config.prefix.lru_capacity_per_server
        self.config = compile_config(published or self._fallback, self._catalogue)
        if self.config.prefix.lru_capacity_per_server != before:
            self.index = self._new_index()
        self._stale_slots = True

    def refresh(self, record: PoolRecord) -> None:
        """Take over what changed in the view since the last call."""
        if self.table.refresh(record) or self._stale_slots:
            self._follow(record)

    def request(
        self, descriptor: RequestDescriptor, *, mean_output_tokens: float | None, seed: int
    ) -> SchedulingRequest:
        """Read a descriptor within the limits of the configuration."""
        limits = self.config.prefix
        return request_of(
            descriptor,
            max_blocks=limits.max_prefix_blocks_to_match or None,
            max_tokens=limits.max_prefix_tokens_to_match or None,
            mean_output_tokens=mean_output_tokens,
            seed=seed,
        )

    def candidates(
        self,
        request: SchedulingRequest,
        now: float,
        *,
        subset: frozenset[str] | None,
        given: Sequence[Endpoint] | None = None,
    ) -> Candidates:
        """The ready endpoints within the subset, or of those `given` in place of the view's."""
        matched = self.index.match(request.block_hashes)
        if given is None:
            table, slots = self.table, self._slots
        else:
            table = EndpointTable(
                self._leases.load, fresh_s=self._fresh_s, half_life_s=self._half_life_s
            )
            table.replace(given)
            slots = self._slots_of(given)
        # Slot -1 is of who is not in the index; what it reads is put to 0.
        cached = matched[slots] if len(matched) else np.zeros(len(slots))
        if given is not None:
            cached[slots < 0] = 0
        candidates = table.candidates(now, cached)
        if subset is not None:
            candidates = candidates.select(table.allowed_rows(subset))
        return candidates

    def _follow(self, record: PoolRecord) -> None:
        self.index.follow(
            record.endpoints.values(),
            record.config.prefix_block_tokens,
            tuned=self.config.prefix.auto_tune,
        )
        self._slots = self._slots_of(self.table.endpoints)
        self._stale_slots = False

    def _slots_of(self, endpoints: Sequence[Endpoint]) -> IntArray:
        slots = [self.index.slot_of(endpoint.uid) for endpoint in endpoints]
        return np.array([-1 if slot is None else slot for slot in slots], dtype=np.int64)

    def _new_index(self) -> PrefixIndex:
        return PrefixIndex(
            max_blocks=self._max_blocks,
            default_capacity=self.config.prefix.lru_capacity_per_server,
        )
