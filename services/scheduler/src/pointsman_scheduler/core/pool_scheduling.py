"""One pool as the scheduler keeps it: its endpoints as columns, its prefix index, its policy."""

import math
from collections.abc import Sequence

import numpy as np

from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.endpoint import Endpoint
from pointsman_common.in_flight import LeaseTable
from pointsman_common.pool_view import PoolRecord
from pointsman_scheduler.core.arrays import IntArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.config import Catalogue, SchedulingConfig, compile_config
from pointsman_scheduler.core.endpoint_speed import EndpointSpeeds, ExpectedTtft
from pointsman_scheduler.core.endpoint_table import EndpointTable
from pointsman_scheduler.core.plugin_protocols import LatencyModel
from pointsman_scheduler.core.prefix_index import PrefixIndex
from pointsman_scheduler.core.scheduling_request import SchedulingRequest, request_of

_PREFILL_TOKEN_S = 45e-6
"""Of an 8B model on one H100, where no plugin says better."""


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
        self.config: SchedulingConfig = compile_config(fallback, catalogue)
        self.speeds = EndpointSpeeds()
        self.table = self._new_table()
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
        self.table.note_speeds()

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
            table = self._new_table()
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

    def learn_first_token(self, uid: str, expected: ExpectedTtft, ttft_s: float) -> None:
        """A first token came from an endpoint after `ttft_s`."""
        latency, endpoint = self.config.latency, self.table.get(uid)
        if latency is None or not latency.learns or endpoint is None:
            return
        if self.speeds.learn(uid, self._kind(endpoint, latency), expected, ttft_s):
            self.table.note_speed(uid)

    def prefill_s(self, uid: str, tokens: int) -> float:
        """Seconds that an endpoint takes for so many uncached prompt tokens."""
        latency, endpoint = self.config.latency, self.table.get(uid)
        if latency is None or endpoint is None:
            return _PREFILL_TOKEN_S * tokens
        return self._speed_of(endpoint)[0] * latency.prefill_token_s * tokens

    def _speed_of(self, endpoint: Endpoint) -> tuple[float, float]:
        latency = self.config.latency
        if latency is None:
            return 1.0, 1.0
        told = _positive(endpoint.labels.get(latency.speed_label, ""))
        if told is not None:
            return told, told
        if not latency.learns:
            return 1.0, 1.0
        return self.speeds.of(endpoint.uid, self._kind(endpoint, latency))

    @staticmethod
    def _kind(endpoint: Endpoint, latency: LatencyModel) -> str:
        return f"{endpoint.engine}/{endpoint.labels.get(latency.profile_label, '')}"

    def _new_table(self) -> EndpointTable:
        return EndpointTable(
            self._leases.load,
            fresh_s=self._fresh_s,
            half_life_s=self._half_life_s,
            speed_of=self._speed_of,
        )

    def _follow(self, record: PoolRecord) -> None:
        self.index.follow(
            record.endpoints.values(),
            record.config.prefix_block_tokens,
            tuned=self.config.prefix.auto_tune,
        )
        self.speeds.keep(set(record.endpoints))
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


def _positive(text: str) -> float | None:
    """A number above 0; `None`: it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
