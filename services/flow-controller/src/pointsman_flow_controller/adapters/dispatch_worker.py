"""The one owner of a pool's queues: everything that happens to them happens in its calls.

It never loops. It is woken by what can change who may go: a new request, a finished or served
lease, a change of the pool, the end of a wait. Wake-ups that come together are one.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from pointsman_common.clock import Clock
from pointsman_common.contracts import events_pb2
from pointsman_common.errors import SettingsError
from pointsman_common.in_flight import LeaseTable
from pointsman_common.pool_view import PoolView
from pointsman_common.structured_log import get_logger
from pointsman_flow_controller.core.flow_controller import FlowController
from pointsman_flow_controller.core.flow_policy import FlowPolicy
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.plugin_protocols import SaturationDetector
from pointsman_flow_controller.core.queue_outcome import QueueExit
from pointsman_flow_controller.core.share_board import FlowDemand
from pointsman_flow_controller.metrics import Metrics

log = get_logger("dispatch-worker")

PolicyReader = Callable[[str], FlowPolicy]
"""Takes the text of an EndpointPickerConfig, empty for none. Raises SettingsError."""


class DispatchWorker:
    def __init__(
        self,
        pool: str,
        *,
        clock: Clock,
        view: PoolView,
        leases: LeaseTable,
        metrics: Metrics,
        read_policy: PolicyReader,
        make_blind_detector: Callable[[], SaturationDetector],
        blind_after_s: float,
        set_timer: Callable[[float], None],
        replica: str = "",
        on_evict: Callable[[str, Sequence[str]], None] = lambda *_: None,
    ) -> None:
        """`set_timer` is told when `due` has to be called at the latest; monotonic seconds.

        `replica` names this one among its peers; `on_evict` is told of the pool and the leases that
        their edges are to end.
        """
        self.pool, self._set_timer = pool, set_timer
        self._clock, self._view, self._leases, self._metrics = clock, view, leases, metrics
        self._read_policy, self._blind_after_s = read_policy, blind_after_s
        self._futures: dict[QueuedRequest, asyncio.Future[QueueExit]] = {}
        self._config_text = ""
        self._behind = True
        self._wake_due = False
        now = clock.monotonic()
        self.controller = FlowController(
            pool,
            read_policy(""),
            leases,
            on_exit=self._left,
            make_blind_detector=make_blind_detector,
            now=now,
            replica=replica,
            on_evict=partial(self._evict, on_evict),
        )
        self._on_demand: Callable[[DispatchWorker], None] = lambda _: None
        self._catch_up(now)

    @property
    def waiting(self) -> int:
        return self.controller.registry.requests

    def on_demand(self, listener: "Callable[[DispatchWorker], None]") -> None:
        """Have a listener called when the first request has to wait."""
        self._on_demand = listener

    def admit(self, request: QueuedRequest) -> "QueueExit | asyncio.Future[QueueExit]":
        """How a request leaves; a future where it has to wait. Cancel it with `cancel`."""
        now = self._clock.monotonic()
        self._catch_up(now)
        self.controller.admit(request, now)
        if request.exit is not None:
            return request.exit
        self._metrics.entered(self.pool, request)
        future: asyncio.Future[QueueExit] = asyncio.get_running_loop().create_future()
        self._futures[request] = future
        if self.waiting == 1:
            self._on_demand(self)
        self._plan()
        return future

    def cancel(self, request: QueuedRequest) -> None:
        """The client went."""
        self.controller.cancel(request, self._clock.monotonic())

    def wake_soon(self) -> None:
        """Let go what fits, once the events at hand have all been applied."""
        if self.waiting and not self._wake_due:
            self._wake_due = True
            asyncio.get_running_loop().call_soon(self._wake)

    def pool_changed(self) -> None:
        """Endpoints, metrics or configuration are others: looked at when it matters."""
        self._behind = True
        self.wake_soon()

    def picked(self, lease: events_pb2.Lease) -> None:
        """An edge tells where a request went."""
        now = self._clock.monotonic()
        self.controller.ledger.opened(
            lease.lease_id,
            endpoint=lease.endpoint_uid or lease.endpoint_address,
            tokens=lease.prompt_tokens + lease.expected_output_tokens,
            prefill_tokens=lease.prefill_tokens,
            now=now,
            priority=lease.priority,
        )
        self.controller.accounting.picked(
            lease.lease_id, prefill_tokens=lease.prefill_tokens, now=now
        )
        if self.controller.gate.peers:
            self.wake_soon()  # what was guessed of others is known now

    def serving(self, lease_id: str) -> None:
        self.controller.ledger.serving(lease_id)
        self.wake_soon()

    def finished(self, event: events_pb2.RequestFinished) -> None:
        self.controller.finished(
            event.lease_id,
            self._clock.monotonic(),
            prompt_tokens=event.prompt_tokens if event.HasField("prompt_tokens") else None,
            cached_tokens=event.cached_tokens if event.HasField("cached_tokens") else None,
            output_tokens=event.output_tokens if event.HasField("output_tokens") else None,
            duration_s=event.duration_ms / 1e3,
        )
        self.wake_soon()

    def heard_shares(
        self, replica: str, epoch: int, flows: Sequence[FlowDemand], *, whole: bool
    ) -> None:
        """Another replica tells of its demand and service."""
        now = self._clock.monotonic()
        self.controller.heard_from(replica, epoch, flows, whole=whole, now=now)
        self.wake_soon()

    def peer_left(self, replica: str) -> None:
        """Another replica has ended."""
        self.controller.peers.board.forget(replica)
        self.wake_soon()

    def due(self) -> None:
        """What the controller wanted to be called for may have come."""
        now = self._clock.monotonic()
        self.controller.expire(now)
        self.controller.dispatch(now)

    def next_due(self) -> float | None:
        """`None`: nothing waits, or only without end."""
        return self.controller.next_due(self._clock.monotonic())

    def shut_down(self) -> None:
        """Refuse all that wait."""
        self.controller.shut_down(self._clock.monotonic())

    def tick(self) -> None:
        """About once a second: see what no event tells of, and show the pool's state."""
        now = self._clock.monotonic()
        self._catch_up(now)
        self._look_whether_blind(now)
        self.controller.dispatch(now)
        self.controller.collect_idle(now)
        self.controller.look_for_peers(now)
        self._show(now)

    def _wake(self) -> None:
        self._wake_due = False
        now = self._clock.monotonic()
        self._catch_up(now)
        self.controller.dispatch(now)
        self._plan()
        self._metrics.dispatch_cycle.observe(self._clock.monotonic() - now)

    def _plan(self) -> None:
        due = self.controller.next_due(self._clock.monotonic())
        if due is not None:
            self._set_timer(due)

    def _catch_up(self, now: float) -> None:
        """Take over what has changed since the last look."""
        if self._behind:
            self._behind = False
            record = self._view.get(self.pool)
            self._use_config(record.config.endpoint_picker_config if record else "", now)
            self.controller.observe(list(record.ready_endpoints()) if record else [], now)
            self._look_whether_blind(now)
        ledger = self.controller.ledger
        if ledger.load.requests != self._leases.in_flight(self.pool):
            # Leases that lapsed, or came with a snapshot, have no event of their own.
            ledger.agree_with(item for item in self._leases.leases() if item.pool == self.pool)

    def _use_config(self, text: str, now: float) -> None:
        if text == self._config_text:
            return
        self._config_text = text  # also of a bad one: it is refused once
        try:
            policy = self._read_policy(text)
        except SettingsError as error:
            self._metrics.refused_configs.labels(self.pool).inc()
            log.warning("endpoint-picker-config-refused", pool=self.pool, error=str(error))
            return
        self.controller.reconfigure(policy, now)

    def _look_whether_blind(self, now: float) -> None:
        blind = self._view.age_s(self.pool, now) > self._blind_after_s
        if blind != self.controller.gate.blind:
            self.controller.gate.blind = blind
            log.warning("pool-state-silent" if blind else "pool-state-heard", pool=self.pool)

    def _evict(self, on_evict: Callable[[str, Sequence[str]], None], leases: Sequence[str]) -> None:
        self._metrics.evictions.labels(self.pool).inc(len(leases))
        on_evict(self.pool, leases)

    def _show(self, now: float) -> None:
        metrics, controller = self._metrics, self.controller
        metrics.show_saturation(self.pool, controller.gate.by_stage(now))
        metrics.stale_endpoints.labels(self.pool).set(controller.gate.stale_endpoints)
        metrics.blind.labels(self.pool).set(controller.gate.blind)
        metrics.replicas.labels(self.pool).set(controller.peers.board.place()[1])
        for priority, band in controller.registry.bands.items():
            labels = (metrics.priority(priority), self.pool)
            metrics.band_requests_ratio.labels(*labels).set(
                band.requests / band.policy.max_requests
            )
            metrics.band_bytes_ratio.labels(*labels).set(band.bytes / band.policy.max_bytes)

    def _left(self, request: QueuedRequest, way_out: QueueExit) -> None:
        self._metrics.left(self.pool, request, way_out)
        future = self._futures.pop(request, None)
        if future is not None:
            self._metrics.left_queue(self.pool, request)
            if not future.done():
                future.set_result(way_out)
