"""The adapters wired as app.py wires them, on a virtual clock and a bus in memory."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from pointsman_common import subjects
from pointsman_common.contracts import events_pb2, flow_pb2
from pointsman_common.endpoint import Endpoint
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.in_flight import LeaseTable
from pointsman_common.inference_pool import InferencePool
from pointsman_common.lease_subscriber import LeaseSubscriber
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import (
    POOL,
    a_descriptor,
    a_pool_config,
    a_snapshot,
    an_endpoint,
    an_envelope,
)
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_flow_controller.adapters.dispatch_worker import DispatchWorker
from pointsman_flow_controller.adapters.dispatch_workers import DispatchWorkers
from pointsman_flow_controller.adapters.eviction_publisher import EvictionPublisher
from pointsman_flow_controller.adapters.flow_rpc_server import AdmitHook
from pointsman_flow_controller.adapters.flow_shares_exchange import FlowSharesExchange
from pointsman_flow_controller.app import policy_reader
from pointsman_flow_controller.metrics import Metrics
from pointsman_flow_controller.plugins.saturation.concurrency import ConcurrencyDetector
from pointsman_flow_controller.settings import FlowControllerSettings


class WiredService:
    """A flow controller that knows one pool of one endpoint."""

    def __init__(
        self,
        *,
        name: str = "flow-controller/test",
        bus: InMemoryBus | None = None,
        clock: VirtualClock | None = None,
        **given: Any,
    ) -> None:
        """Several on one bus and clock are replicas."""
        settings = FlowControllerSettings(**given)
        self.clock, self.bus = clock or VirtualClock(), bus or InMemoryBus()
        self.metrics, self.stamp = Metrics(), EnvelopeStamp(name, self.clock)
        self.view = PoolView(max_age_s=settings.blind_after_s)
        self.leases = LeaseTable()
        read_policy = policy_reader(settings, "")

        def make_worker(pool: str, set_timer: Callable[[float], None]) -> DispatchWorker:
            return DispatchWorker(
                pool,
                clock=self.clock,
                view=self.view,
                leases=self.leases,
                metrics=self.metrics,
                read_policy=read_policy,
                make_blind_detector=lambda: ConcurrencyDetector(max_requests=1, max_tokens=1),
                blind_after_s=settings.blind_after_s,
                set_timer=set_timer,
                replica=self.stamp.publisher,
                on_evict=EvictionPublisher(self.bus, self.stamp).publish,
            )

        self.workers = DispatchWorkers(self.clock, self.view, self.leases, make_worker)
        self.subscriber = LeaseSubscriber(
            self.bus,
            self.clock,
            self.leases,
            self.stamp,
            on_picked=self.workers.on_picked,
            on_serving=self.workers.on_serving,
            on_finished=self.workers.on_finished,
        )
        self.exchange = FlowSharesExchange(
            self.bus,
            self.clock,
            self.stamp,
            self.workers,
            interval_s=settings.flow_shares_interval_s,
        )
        self.hook = AdmitHook(self.workers, self.clock)
        self._sequences: dict[str, int] = {}
        self.configure("")
        self.say(an_endpoint(1))

    def configure(self, endpoint_picker_config: str) -> None:
        pool = InferencePool(name=POOL, endpoint_picker_config=endpoint_picker_config)
        self.view.apply_config(a_pool_config(pool, sequence=self._next("config")))

    def say(self, *endpoints: Endpoint) -> None:
        """The pool's endpoints are these, with metrics read now."""
        now = self.clock.monotonic()
        snapshot = a_snapshot(endpoints, sequence=self._next("state"), now=1_000.0)
        self.view.apply_snapshot(snapshot, now)

    def ask(self, lease_id: str, **descriptor: Any) -> bytes | Awaitable[bytes]:
        values: dict[str, Any] = {"arrived_at": self.clock.wall(), **descriptor}
        request = flow_pb2.AdmitRequest(
            lease_id=lease_id,
            descriptor=a_descriptor(**values),
        )
        return self.hook(request.SerializeToString())

    def answer(self, lease_id: str, **descriptor: Any) -> flow_pb2.AdmitResponse:
        """What is answered at once."""
        reply = self.ask(lease_id, **descriptor)
        if not isinstance(reply, bytes):
            raise AssertionError(f"{lease_id} has to wait")
        return flow_pb2.AdmitResponse.FromString(reply)

    def wait(self, lease_id: str, **descriptor: Any) -> "asyncio.Task[bytes]":
        """The call of one that has to wait."""
        return waiting(self.ask(lease_id, **descriptor))

    def pick(self, lease_id: str) -> None:
        lease = events_pb2.Lease(
            lease_id=lease_id, edge="edge/1", pool=POOL, endpoint_uid="e1", prompt_tokens=100
        )
        self._tell("picked", subjects.request_picked(POOL), picked=[{"lease": lease}])

    def serve(self, lease_id: str) -> None:
        event = events_pb2.RequestServing(lease_id=lease_id, endpoint_uid="e1")
        self._tell("serving", subjects.request_serving(POOL), serving=[event])

    def finish(self, lease_id: str, *, output_tokens: int = 0) -> None:
        event = events_pb2.RequestFinished(lease_id=lease_id, output_tokens=output_tokens)
        self._tell("finished", subjects.request_finished(POOL), finished=[event])

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def queue_size(self) -> float:
        return sum(
            sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "llm_d_epp_flow_control_queue_size"
        )

    def _tell(self, kind: str, subject: str, **events: Any) -> None:
        envelope = an_envelope(self._next(kind), publisher="edge/1")
        message = events_pb2.RequestEvents(envelope=envelope, pool=POOL, **events)
        self.bus.publish(subject, message.SerializeToString())

    def _next(self, what: str) -> int:
        self._sequences[what] = self._sequences.get(what, 0) + 1
        return self._sequences[what]


def waiting(answer: bytes | Awaitable[bytes]) -> "asyncio.Task[bytes]":
    """The call whose answer has to wait."""
    if not inspect.iscoroutine(answer):
        raise AssertionError("it does not have to wait")
    return asyncio.ensure_future(answer)
