"""Several flow controllers before one pool, with what the bus would tell them, in virtual time.

Whoever uses it has the timeline, the engines and the edges: it lets requests arrive, is told of
those that go, and says when they are served.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pointsman_common.endpoint import Endpoint
from pointsman_common.in_flight import Lease, LeaseTable
from pointsman_flow_controller.core.flow_controller import FlowController
from pointsman_flow_controller.core.flow_policy import FlowPolicy
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.queue_outcome import QueueExit, QueueOutcome
from pointsman_flow_controller.plugins.saturation.concurrency import ConcurrencyDetector

Schedule = Callable[..., None]
"""`schedule(when, call, *arguments)`: have something called at a time."""

POOL = "default/replicated"
EDGE = "ext-proc/replicated"


class ReplicaGroup:
    def __init__(
        self,
        count: int,
        make_policy: Callable[[], FlowPolicy],
        endpoints: Sequence[Endpoint],
        *,
        schedule: Schedule,
        now: Callable[[], float],
        on_exit: Callable[[int, QueuedRequest, QueueExit], None],
        bus_delay_s: float = 0.002,
        interval_s: float = 0.05,
    ) -> None:
        """`on_exit` is told of the replica, the request and how it left."""
        self._schedule, self._now = schedule, now
        self._on_exit, self._bus_delay_s = on_exit, bus_delay_s
        self._interval_s = interval_s
        self.partitioned: set[int] = set()
        """Replicas that nothing reaches over the bus, nor comes from."""
        self.alive = [True] * count
        self._running: dict[str, Lease] = {}
        self._leases = [LeaseTable(provisional_ttl_s=1e9) for _ in range(count)]
        self._timers = [float("inf")] * count
        self.evicted: list[str] = []
        self.controllers = [
            FlowController(
                POOL,
                make_policy(),
                self._leases[index],
                on_exit=partial(self._left, index),
                make_blind_detector=lambda: ConcurrencyDetector(max_requests=100, max_tokens=1),
                now=now(),
                replica=f"flow-controller/{index}",
                on_evict=self.evicted.extend,
            )
            for index in range(count)
        ]
        for index, controller in enumerate(self.controllers):
            controller.observe(endpoints, now())
            schedule(now() + interval_s * (1 + index / count), self._exchange, index, 0)

    def admit(self, index: int, request: QueuedRequest) -> None:
        """A request comes to a replica; it must be alive."""
        controller = self.controllers[index]
        controller.admit(request, self._now())
        if request.exit is None and controller.registry.requests == 1:
            self._tell(index, whole=False)
        self._plan(index)

    def picked(self, lease_id: str, *, tokens: int, prefill_tokens: int, priority: int = 0) -> None:
        """The request's edge tells where it goes."""
        lease = Lease(lease_id, EDGE, POOL, "e1", prompt_tokens=tokens, priority=priority)
        self._running[lease_id] = lease
        self._tell_all(self._apply_pick, lease, prefill_tokens)

    def serving(self, lease_id: str) -> None:
        self._tell_all(self._apply_serving, lease_id)

    def finished(self, lease_id: str, **tokens: Any) -> None:
        """See `FlowController.finished` for what may be told."""
        self._running.pop(lease_id, None)
        self._tell_all(self._apply_finish, lease_id, tokens)

    def kill(self, index: int) -> list[QueuedRequest]:
        """The replica is gone at once; returns what waited there."""
        self.alive[index] = False
        return self.controllers[index].registry.waiting()

    def heal(self) -> None:
        """Nobody is cut off any more: who was asks the edges for what runs."""
        healed, self.partitioned = self.partitioned, set()
        for index in healed:
            self._schedule(
                self._now() + self._bus_delay_s, self._deliver, index, self._apply_snapshot, ()
            )

    def replica_alive(self, preferred: int) -> int:
        """The preferred replica, or the next that lives."""
        count = len(self.alive)
        return next(
            (preferred + step) % count
            for step in range(count)
            if self.alive[(preferred + step) % count]
        )

    @property
    def waiting(self) -> int:
        """At all replicas that live."""
        return sum(
            controller.registry.requests
            for index, controller in enumerate(self.controllers)
            if self.alive[index]
        )

    def _left(self, index: int, request: QueuedRequest, way_out: QueueExit) -> None:
        self._on_exit(index, request, way_out)

    def _tell_all(self, apply: Callable[..., None], *arguments: Any) -> None:
        for index, alive in enumerate(self.alive):
            if alive and index not in self.partitioned:
                self._schedule(
                    self._now() + self._bus_delay_s, self._deliver, index, apply, arguments
                )

    def _deliver(self, index: int, apply: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self.alive[index]:
            apply(index, *arguments)
            self._wake(index)

    def _apply_pick(self, index: int, lease: Lease, prefill_tokens: int) -> None:
        controller, now = self.controllers[index], self._now()
        self._leases[index].open(lease, now)
        controller.ledger.opened(
            lease.lease_id,
            endpoint=lease.endpoint,
            tokens=lease.prompt_tokens,
            prefill_tokens=prefill_tokens,
            now=now,
            priority=lease.priority,
        )
        controller.accounting.picked(lease.lease_id, prefill_tokens=prefill_tokens, now=now)

    def _apply_serving(self, index: int, lease_id: str) -> None:
        self.controllers[index].ledger.serving(lease_id)

    def _apply_finish(self, index: int, lease_id: str, tokens: dict[str, Any]) -> None:
        self.controllers[index].finished(lease_id, self._now(), **tokens)
        self._leases[index].finish(lease_id)

    def _apply_snapshot(self, index: int) -> None:
        controller, leases = self.controllers[index], self._leases[index]
        leases.replace_edge(EDGE, self._running.values(), self._now())
        for lease in leases.leases():
            if lease.provisional and lease.lease_id not in self._running:
                leases.finish(lease.lease_id)
        controller.ledger.agree_with(leases.leases())

    def _exchange(self, index: int, turn: int) -> None:
        if not self.alive[index]:
            return
        whole = turn % 20 == 0
        controller = self.controllers[index]
        if whole or controller.peers.tally.has_news or controller.registry.requests:
            self._tell(index, whole=whole)
        if whole:
            controller.look_for_peers(self._now())
        self._schedule(self._now() + self._interval_s, self._exchange, index, turn + 1)

    def _tell(self, index: int, *, whole: bool) -> None:
        controller = self.controllers[index]
        flows = controller.peers.take_own(1, self._now(), whole=whole)
        controller.peers.cut_off = index in self.partitioned
        if index in self.partitioned:
            return
        for other, alive in enumerate(self.alive):
            if alive and other != index and other not in self.partitioned:
                self._schedule(
                    self._now() + self._bus_delay_s, self._hear, other, index, flows, whole
                )

    def _hear(self, index: int, teller: int, flows: Any, whole: bool) -> None:
        if self.alive[index]:
            name = f"flow-controller/{teller}"
            self.controllers[index].heard_from(name, 1, flows, whole=whole, now=self._now())
            self._wake(index)

    def _wake(self, index: int) -> None:
        controller = self.controllers[index]
        if controller.registry.requests:
            controller.dispatch(self._now())
            self._plan(index)

    def _plan(self, index: int) -> None:
        due = self.controllers[index].next_due(self._now())
        if due is not None and due < self._timers[index]:
            self._timers[index] = due
            self._schedule(max(due, self._now()), self._due, index)

    def _due(self, index: int) -> None:
        self._timers[index] = float("inf")
        if self.alive[index]:
            self.controllers[index].expire(self._now())
            self.controllers[index].dispatch(self._now())
            self._plan(index)


def was_dispatched(way_out: QueueExit) -> bool:
    return way_out.outcome is QueueOutcome.DISPATCHED
