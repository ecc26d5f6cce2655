"""A whole edge in one process: fake layers on Unix sockets, an in-memory bus, a known pool. And a
lease book alone, with a bus and a clock of its own, or shared."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import edge_gateway
from support.transport import TEST_TRANSPORT

from pointsman_common import subjects
from pointsman_common.clock import SystemClock
from pointsman_common.contracts import events_pb2, flow_pb2, routing_pb2, scheduling_pb2
from pointsman_common.contracts.scheduling_pb2 import Picked
from pointsman_common.endpoint import Endpoint
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import POOL, a_descriptor, a_snapshot, an_endpoint
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock, settle
from pointsman_ext_proc.adapters.lease_book import LeaseBook, LeaseRules
from pointsman_ext_proc.adapters.request_event_publisher import RequestEventPublisher
from pointsman_ext_proc.app import Edge, compose
from pointsman_ext_proc.core.endpoint_directory import EndpointDirectory
from pointsman_ext_proc.core.exchange_events import Destination, Dispatched
from pointsman_ext_proc.core.open_lease import LeaseEnd, OpenLease
from pointsman_ext_proc.settings import ExtProcSettings
from wire import Server, Transport

start_gateway = edge_gateway.start_gateway


class FakeLayers:
    """Three layers that say yes; a test replaces the answer that it is about."""

    def __init__(self, folder: Path, *, transport: Transport = TEST_TRANSPORT) -> None:
        self.url = f"unix://{folder}/layers.sock"
        self.transport = transport
        self.route: Callable[[routing_pb2.RouteRequest], Any] = self.routed
        self.admit: Callable[[flow_pb2.AdmitRequest], Any] = self.admitted
        self.pick: Callable[[scheduling_pb2.PickRequest], Any] = self.picked
        self.destinations = ["10.0.0.1:8000"]
        self.routes: list[routing_pb2.RouteRequest] = []
        self.admits: list[flow_pb2.AdmitRequest] = []
        self.picks: list[scheduling_pb2.PickRequest] = []
        self._server: Server | None = None

    def routed(self, request: routing_pb2.RouteRequest, **extra: Any) -> routing_pb2.RouteResponse:
        reply = routing_pb2.RouteResponse(routed=routing_pb2.Routed(wants_usage=True, **extra))
        descriptor = reply.routed.descriptor
        descriptor.request_id = request.request_id
        descriptor.model = descriptor.target_model = "m"
        descriptor.fairness_id = "default-flow"
        descriptor.stream = b'"stream":true' in request.body
        descriptor.prompt_tokens = 8
        return reply

    def admitted(self, _: flow_pb2.AdmitRequest) -> flow_pb2.AdmitResponse:
        return flow_pb2.AdmitResponse(
            admitted=flow_pb2.Admitted(), outcome=flow_pb2.OUTCOME_DISPATCHED
        )

    def picked(self, _: scheduling_pb2.PickRequest) -> scheduling_pb2.PickResponse:
        picked = scheduling_pb2.Picked(
            endpoints=[scheduling_pb2.PickedEndpoint(address=item) for item in self.destinations]
        )
        return scheduling_pb2.PickResponse(picked=picked)

    async def start(self) -> None:
        async def answer(reply: Any) -> bytes:
            if isinstance(reply, Awaitable):
                reply = await reply
            encoded: bytes = reply.SerializeToString()
            return encoded

        async def route(message: bytes) -> bytes:
            self.routes.append(routing_pb2.RouteRequest.FromString(message))
            return await answer(self.route(self.routes[-1]))

        async def admit(message: bytes) -> bytes:
            self.admits.append(flow_pb2.AdmitRequest.FromString(message))
            return await answer(self.admit(self.admits[-1]))

        async def pick(message: bytes) -> bytes:
            self.picks.append(scheduling_pb2.PickRequest.FromString(message))
            return await answer(self.pick(self.picks[-1]))

        self._server = Server(max_message_bytes=64 << 20, transport=self.transport)
        self._server.unary("/pointsman.routing.v1.Router/Route", route)
        self._server.unary("/pointsman.flow.v1.FlowController/Admit", admit)
        self._server.unary("/pointsman.scheduling.v1.Scheduler/Pick", pick)
        await self._server.listen(self.url)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.drain(0)
            self._server = None


@dataclass
class RunningEdge:
    edge: Edge
    bus: InMemoryBus
    layers: FakeLayers
    address: str
    settings: ExtProcSettings
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def events(self) -> list[Any]:
        """All request events told so far, in order."""
        found: list[Any] = []
        for subject, payload in self.bus.published:
            if ".request." in subject:
                message = events_pb2.RequestEvents.FromString(payload)
                found += (*message.picked, *message.serving, *message.finished)
        return found

    def told(self, kind: str) -> list[Any]:
        """Events of one kind: picked, serving or finished."""
        subject = {
            "picked": subjects.request_picked,
            "serving": subjects.request_serving,
            "finished": subjects.request_finished,
        }[kind](POOL)
        messages = [events_pb2.RequestEvents.FromString(raw) for raw in self.bus.sent(subject)]
        return [event for message in messages for event in getattr(message, kind)]

    async def until(self, condition: Callable[[], Any], *, seconds: float = 5.0) -> None:
        """Let everything run until something holds."""
        async with asyncio.timeout(seconds):
            while not condition():
                await settle(1)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples with these labels."""
        return sum(
            sample.value
            for family in self.edge.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
def folder() -> Iterator[Path]:
    # Paths of Unix sockets are at most 107 bytes: pytest's own folders are too deep.
    with tempfile.TemporaryDirectory(prefix="edge") as name:
        yield Path(name)


@pytest.fixture
async def layers(folder: Path) -> AsyncIterator[FakeLayers]:
    fake = FakeLayers(folder)
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()


@pytest.fixture
async def new_layers(folder: Path) -> AsyncIterator[Callable[..., Awaitable[FakeLayers]]]:
    """Starts further layers, on a socket and a transport of their own."""
    started: list[FakeLayers] = []

    async def start(*, transport: Transport) -> FakeLayers:
        own = folder / f"layers-{len(started)}"
        own.mkdir()
        fakes = FakeLayers(own, transport=transport)
        await fakes.start()
        started.append(fakes)
        return fakes

    yield start
    for fakes in started:
        await fakes.stop()


EdgeStarter = Callable[..., Awaitable[RunningEdge]]


@pytest.fixture
async def start_edge(folder: Path, layers: FakeLayers) -> AsyncIterator[EdgeStarter]:
    """Starts an edge with settings of choice; knows endpoints 1 to 3 unless told."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*, endpoints: list[Endpoint] | None = None, **settings: Any) -> RunningEdge:
            address = settings.setdefault("listen_address", f"unix://{folder}/edge.sock")
            for layer in ("router", "flow_controller", "scheduler"):
                settings.setdefault(f"{layer}_url", layers.url)
            known = ExtProcSettings(
                **{
                    "health_address": "127.0.0.1:0",
                    "admin_address": "127.0.0.1:0",
                    "datalayer_url": f"unix://{folder}/nobody.sock",
                    "drain_delay_s": 0.0,
                    "rpc_transport": TEST_TRANSPORT,
                    **settings,
                }
            )
            bus = InMemoryBus()
            edge = compose(known, bus, SystemClock(), replica="ext-proc/test/1")
            if endpoints is None:
                endpoints = [an_endpoint(index) for index in (1, 2, 3)]
            edge.view.apply_snapshot(a_snapshot(endpoints), SystemClock().monotonic())
            running = RunningEdge(edge, bus, layers, address, known)
            # All parts but the admin's web server, which has no say in an exchange.
            running.tasks = [asyncio.create_task(part.run()) for part in edge.parts[1:]]

            async def stop() -> None:
                for task in running.tasks:
                    task.cancel()
                await asyncio.gather(*running.tasks, return_exceptions=True)

            stack.push_async_callback(stop)
            await running.until(lambda: edge.server.health_bound)
            return running

        yield start


# --- lease books ---


@dataclass
class Desk:
    """A lease book with its bus and clock; `ended` holds what it reported."""

    rules: LeaseRules = field(default_factory=lambda: LeaseRules(pool=POOL))
    edge: str = "ext-proc/a"
    bus: InMemoryBus = field(default_factory=InMemoryBus)
    clock: VirtualClock = field(default_factory=VirtualClock)

    def __post_init__(self) -> None:
        self.view = PoolView(max_age_s=10.0)
        self.view.apply_snapshot(a_snapshot([an_endpoint(1), an_endpoint(2)]), 1_000.0)
        stamp = EnvelopeStamp(self.edge, self.clock)
        self.publisher = RequestEventPublisher(
            self.bus, self.clock, stamp, pool=POOL, gather_s=0.002
        )
        self.ended: list[tuple[OpenLease, LeaseEnd, float]] = []
        self.book = LeaseBook(
            self.bus,
            self.clock,
            stamp,
            self.publisher,
            EndpointDirectory(self.view, POOL),
            rules=self.rules,
            on_ended=lambda *ended: self.ended.append(ended),
        )

    def open(self, *, stream: bool = True, **descriptor: Any) -> str:
        lease_id = self.book.new_id()
        known = a_descriptor(prompt_tokens=100, **descriptor)
        known.stream = stream
        dispatched = Dispatched(
            lease_id=lease_id,
            descriptor=known,
            destinations=(Destination("e1", "10.0.0.1:8000"), Destination("e2", "10.0.0.2:8000")),
            picked=Picked(decision_id="d1", prefill_tokens=40, expected_output_tokens=200),
        )
        now = self.clock.monotonic()
        self.book.open(dispatched, arrived_at=now, request_bytes=5)
        return lease_id

    def told(self, kind: str) -> list[Any]:
        """All events of one kind that were told on the bus, by whichever edge."""
        subject = getattr(subjects, f"request_{kind}")(POOL)
        messages = [events_pb2.RequestEvents.FromString(raw) for raw in self.bus.sent(subject)]
        return [event for message in messages for event in getattr(message, kind)]


@pytest.fixture
def new_desk() -> Callable[..., Desk]:
    """A lease book that does not run."""
    return Desk


@pytest.fixture
async def running() -> AsyncIterator[Callable[..., Awaitable[Desk]]]:
    """A lease book that runs: `await running(rules, edge, bus, clock)`, each at choice."""
    tasks: list[asyncio.Task[None]] = []

    async def run(*values: Any) -> Desk:
        desk = Desk(*values)
        tasks.append(asyncio.create_task(desk.book.run()))
        await settle()
        return desk

    yield run
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
