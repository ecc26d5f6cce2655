"""Keeps a PoolView up to date: from the bus, and by asking the datalayer when the bus is silent."""

from google.protobuf.message import DecodeError

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contracts import pool_pb2
from pointsman_common.pool_view import PoolView
from pointsman_common.rpc_channel import HookChannel, RpcFailed
from pointsman_common.structured_log import get_logger

log = get_logger("pool-subscriber")

GET_SNAPSHOT = "/pointsman.pool.v1.Pool/GetSnapshot"


class PoolSubscriber:
    """A part of a service. `pool` names one pool, or `subjects.ALL`.

    The datalayer is asked at the start, after a gap, and whenever a pool has been silent for
    `poll_after_s`, but not more often than twice in that time; its answer replaces what is known.
    A pool that has been silent for `forget_after_s` is forgotten once the datalayer names others
    and not this one: an empty answer comes from a datalayer that does not know yet.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        view: PoolView,
        *,
        pool: str = subjects.ALL,
        datalayer: HookChannel | None = None,
        poll_after_s: float = 1.0,
        forget_after_s: float = 60.0,
    ) -> None:
        self._bus, self._clock, self._view = bus, clock, view
        self._pool, self._datalayer, self._poll_after_s = pool, datalayer, poll_after_s
        self._forget_after_s = forget_after_s
        self._gap = True
        self._polled_at = float("-inf")

    async def run(self) -> None:
        ends = [
            self._bus.subscribe(subjects.pool_config(self._pool), self._on_config),
            self._bus.subscribe(subjects.pool_snapshot(self._pool), self._on_snapshot),
            self._bus.subscribe(subjects.pool_delta(self._pool), self._on_delta),
        ]
        try:
            while True:
                if self._datalayer is not None and self._wants_snapshot():
                    await self._poll(self._datalayer)
                await self._clock.sleep(min(0.1, self._poll_after_s / 2))
        finally:
            for end in ends:
                end()

    def _wants_snapshot(self) -> bool:
        now = self._clock.monotonic()
        if now - self._polled_at < self._poll_after_s / 2:
            return False
        silent = any(
            self._view.age_s(pool, now) > self._poll_after_s for pool in self._view.pools()
        )
        return self._gap or silent or not self._view.is_known()

    async def _poll(self, datalayer: HookChannel) -> None:
        self._polled_at = self._clock.monotonic()
        asked = pool_pb2.GetSnapshotRequest(pool="" if self._pool == subjects.ALL else self._pool)
        self._gap = False  # a gap seen while the answer is under way counts again
        try:
            reply = await datalayer.call(GET_SNAPSHOT, asked.SerializeToString(), timeout_s=1.0)
            states = pool_pb2.GetSnapshotResponse.FromString(reply).pools
        except (RpcFailed, DecodeError) as error:
            self._gap = True
            log.debug("snapshot-poll-failed", error=str(error))
            return
        now = self._clock.monotonic()
        for state in states:
            if not state.snapshot.gone:
                self._view.apply_config(state.config)
            self._view.apply_snapshot(state.snapshot, now)
        named = {state.snapshot.pool for state in states if not state.snapshot.gone}
        if named and self._pool == subjects.ALL:
            for pool in self._view.pools():
                if pool not in named and self._view.age_s(pool, now) > self._forget_after_s:
                    self._view.forget(pool)

    def _on_config(self, _: str, payload: bytes) -> None:
        self._view.apply_config(pool_pb2.PoolConfig.FromString(payload))

    def _on_snapshot(self, _: str, payload: bytes) -> None:
        message = pool_pb2.PoolSnapshot.FromString(payload)
        self._view.apply_snapshot(message, self._clock.monotonic())

    def _on_delta(self, _: str, payload: bytes) -> None:
        message = pool_pb2.PoolDelta.FromString(payload)
        if not self._view.apply_delta(message, self._clock.monotonic()):
            self._gap = True
