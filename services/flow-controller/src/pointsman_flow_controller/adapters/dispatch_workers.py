"""The workers of all pools, and the one timer that they share."""

import asyncio
from collections.abc import Callable, Iterable

from pointsman_common.clock import Clock
from pointsman_common.contracts import events_pb2
from pointsman_common.in_flight import LeaseTable
from pointsman_common.pool_view import PoolView
from pointsman_flow_controller.adapters.dispatch_worker import DispatchWorker

TICK_S = 1.0


class DispatchWorkers:
    """A part of the service. A pool gets its worker with its first request."""

    def __init__(
        self,
        clock: Clock,
        view: PoolView,
        leases: LeaseTable,
        make_worker: Callable[[str, Callable[[float], None]], DispatchWorker],
    ) -> None:
        """`make_worker` takes the pool's name and the worker's `set_timer`."""
        self._clock, self._view, self._leases = clock, view, leases
        self._make_worker = make_worker
        self._workers: dict[str, DispatchWorker] = {}
        self._on_demand: Callable[[DispatchWorker], None] = lambda _: None
        self._sleeps_until = float("inf")
        self._sooner = asyncio.Event()
        view.on_change(self._pool_changed)
        leases.on_finish(self._lease_gone)

    def get(self, pool: str) -> DispatchWorker | None:
        """The worker of a pool; `None` when the pool is not known."""
        worker = self._workers.get(pool)
        if worker is None and self._view.get(pool) is not None:
            worker = self._workers[pool] = self._make_worker(pool, self._set_timer)
            worker.on_demand(self._on_demand)
        return worker

    def on_demand(self, listener: Callable[[DispatchWorker], None]) -> None:
        """Have a listener called with the worker whose first request has to wait."""
        self._on_demand = listener

    def all(self) -> Iterable[DispatchWorker]:
        return tuple(self._workers.values())

    def shut_down(self) -> None:
        """Refuse all that wait."""
        for worker in self.all():
            worker.shut_down()

    async def run(self) -> None:
        """End the waits at their time, and tick."""
        next_tick = self._clock.monotonic() + TICK_S
        while True:
            dues = [worker.next_due() for worker in self._workers.values()]
            await self._sleep_until(min([next_tick, *(at for at in dues if at is not None)]))
            now = self._clock.monotonic()
            for worker in self.all():
                worker.due()
            if now >= next_tick:
                next_tick = now + TICK_S
                self._tick()

    def on_picked(self, event: events_pb2.RequestPicked) -> None:
        worker = self._workers.get(event.lease.pool)
        lease = self._leases.get(event.lease.lease_id)
        if worker is None or lease is None:
            return
        worker.picked(event.lease)
        if lease.serving:  # its first token was told of before
            worker.serving(lease.lease_id)

    def on_serving(self, event: events_pb2.RequestServing) -> None:
        worker = self._worker_of(event.lease_id)
        if worker is not None:
            worker.serving(event.lease_id)

    def on_finished(self, event: events_pb2.RequestFinished) -> None:
        worker = self._worker_of(event.lease_id)
        if worker is not None:
            worker.finished(event)

    def _worker_of(self, lease_id: str) -> DispatchWorker | None:
        lease = self._leases.get(lease_id)
        return None if lease is None else self._workers.get(lease.pool)

    def _tick(self) -> None:
        for worker in self.all():
            worker.tick()
            if self._view.get(worker.pool) is None and not worker.waiting:
                del self._workers[worker.pool]

    def _pool_changed(self, pool: str) -> None:
        worker = self._workers.get(pool)
        if worker is not None:
            worker.pool_changed()

    def _lease_gone(self, pool: str) -> None:
        worker = self._workers.get(pool)
        if worker is not None:
            worker.wake_soon()

    def _set_timer(self, due: float) -> None:
        if due < self._sleeps_until:
            self._sooner.set()

    async def _sleep_until(self, due: float) -> None:
        """Sleep, but no longer than until somebody's wait ends sooner."""
        self._sleeps_until = due
        self._sooner.clear()
        sleep = asyncio.ensure_future(self._clock.sleep(max(0.0, due - self._clock.monotonic())))
        sooner = asyncio.ensure_future(self._sooner.wait())
        try:
            await asyncio.wait((sleep, sooner), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            sooner.cancel()
