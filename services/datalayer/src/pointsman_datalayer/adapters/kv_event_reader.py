"""Listens to the engines' KV events over ZeroMQ, one socket an endpoint, and tells them on the bus.

vLLM publishes (topic, sequence, batch) and answers on a second socket, where it has one, with all
batches from a sequence on.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import zmq
import zmq.asyncio

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.endpoint import ip_of
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.kv_event_batch import KvEvent, read_batch
from pointsman_datalayer.core.kv_messages import EndpointKv
from pointsman_datalayer.core.kv_sequence import KvSequence, Ordered
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.metrics import Metrics

log = get_logger("kv-events")

FOLLOW_S = 0.25
LOOK_AGAIN_S = 2.0
"""After so long without a batch the engine is asked for more: the last ones may have been lost, as
what is published while a socket connects is."""
REPLAY_S = 2.0
"""Longest wait for the next part of a replay."""
HIGH_WATER = 20_000
"""Batches that wait in a socket; what is dropped beyond is a gap."""

Batch = tuple[KvEvent, ...]


@dataclass(frozen=True, slots=True)
class KvPorts:
    """Where engines publish when an endpoint does not say so itself; 0: nowhere."""

    events: int = 0
    replay: int = 0


@dataclass(slots=True)
class _Followed:
    """One endpoint, and what it has told to each of its pools."""

    endpoint: DiscoveredEndpoint
    epoch: int
    sequence: KvSequence[Batch]
    topic: bytes | None = None
    """Of the last message; `None`: there was none yet."""
    pools: dict[str, EndpointKv] = field(default_factory=dict[str, EndpointKv])


class KvEventReader:
    """A part of a service. `mine` says which endpoints are this replica's to read."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        stamp: EnvelopeStamp,
        registry: EndpointRegistry,
        metrics: Metrics,
        *,
        ports: KvPorts,
        mine: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._bus, self._clock, self._stamp = bus, clock, stamp
        self._registry, self._metrics = registry, metrics
        self._ports, self._mine = ports, mine
        self._tasks: dict[str, tuple[DiscoveredEndpoint, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        context = zmq.asyncio.Context()
        try:
            async with asyncio.TaskGroup() as readers:
                while True:
                    self._follow(readers, context)
                    await self._clock.sleep(FOLLOW_S)
        finally:
            context.destroy(linger=0)

    def _follow(self, readers: asyncio.TaskGroup, context: zmq.asyncio.Context) -> None:
        wanted = {
            uid: item
            for uid, item in self._registry.addresses().items()
            if self._url(item) and self._mine(uid)
        }
        for uid in list(self._tasks):
            endpoint, task = self._tasks[uid]
            if wanted.get(uid) != endpoint:
                task.cancel()
                del self._tasks[uid]
        for uid in wanted.keys() - self._tasks.keys():
            task = readers.create_task(self._read(wanted[uid], context))
            self._tasks[uid] = wanted[uid], task

    async def _read(self, endpoint: DiscoveredEndpoint, context: zmq.asyncio.Context) -> None:
        replay_url = self._replay_url(endpoint)
        state = _Followed(
            endpoint,
            self._registry.epoch(endpoint.uid),
            KvSequence[Batch](can_replay=bool(replay_url)),
        )
        socket = context.socket(zmq.SUB)
        try:
            socket.set_hwm(HIGH_WATER)
            socket.subscribe(b"")
            socket.connect(self._url(endpoint))
            heard_at = self._clock.monotonic()
            while True:
                if self._clock.monotonic() - heard_at >= LOOK_AGAIN_S:
                    state.sequence.look_again()
                if state.sequence.replay_from is not None and self._knows_model(state):
                    await self._replay(state, context, replay_url)
                    heard_at = self._clock.monotonic()
                elif await socket.poll(round(FOLLOW_S * 1e3)):
                    self._take(state, await socket.recv_multipart())
                    heard_at = self._clock.monotonic()
                self._notice_restart(state)
        except zmq.ZMQError as error:
            log.warning("kv-events-unreachable", endpoint=endpoint.name, why=str(error))
        finally:
            socket.close(linger=0)

    def _take(self, state: _Followed, frames: list[bytes]) -> None:
        sequence, batch = self._parse(state.endpoint, frames[1:])
        if sequence is None:
            return
        state.topic = frames[0]
        if sequence > state.sequence.next_sequence:
            self._metrics.kv_gaps.inc()
        self._tell(state, state.sequence.receive(sequence, batch))

    async def _replay(self, state: _Followed, context: zmq.asyncio.Context, url: str) -> None:
        found: dict[int, Batch] = {}
        socket = context.socket(zmq.DEALER)
        try:
            socket.connect(url)
            start = (state.sequence.replay_from or 0).to_bytes(8, "big")
            await socket.send_multipart([b"", start])
            while await socket.poll(round(REPLAY_S * 1e3)):
                frames = await socket.recv_multipart()
                sequence, batch = self._parse(state.endpoint, frames[1:])
                if sequence is None:
                    break
                found[sequence] = batch
        except zmq.ZMQError as error:
            log.warning("kv-replay-failed", endpoint=state.endpoint.name, why=str(error))
        finally:
            socket.close(linger=0)
        self._metrics.kv_replays.labels("answered" if found else "empty").inc()
        self._tell(state, state.sequence.replayed(found))

    def _parse(self, endpoint: DiscoveredEndpoint, frames: list[bytes]) -> tuple[int | None, Batch]:
        """Sequence and batch; the end of a replay has a sequence of -1, which is none."""
        if len(frames) != 2 or len(frames[0]) != 8:
            log.warning("kv-events-unreadable", endpoint=endpoint.name, why="not three parts")
            return None, ()
        sequence = int.from_bytes(frames[0], "big", signed=True)
        if sequence < 0:
            return None, ()
        try:
            return sequence, read_batch(frames[1])
        except ValueError as error:
            self._metrics.kv_unreadable.inc()
            log.warning("kv-events-unreadable", endpoint=endpoint.name, why=str(error))
            return sequence, ()

    def _notice_restart(self, state: _Followed) -> None:
        epoch = self._registry.epoch(state.endpoint.uid)
        if epoch != state.epoch:
            state.epoch = epoch
            self._tell(state, state.sequence.restarted())

    def _tell(self, state: _Followed, ordered: Ordered[Batch]) -> None:
        if ordered.cleared:
            self._metrics.kv_cleared.inc()
        if not ordered.batches and not ordered.cleared:
            return
        first = state.sequence.next_sequence - len(ordered.batches)
        for name in self._registry.pools_of(state.endpoint.uid):
            kv = self._kv(state, name)
            messages = kv.messages((), first, cleared=True) if ordered.cleared else []
            for number, batch in enumerate(ordered.batches):
                messages += kv.messages(batch, first + number)
            subject = subjects.kv_events(name, state.endpoint.uid)
            for message in messages:
                message.envelope.CopyFrom(self._stamp.next(subject))
                self._metrics.kv_blocks.labels(message.chain).inc(
                    len(message.stored) + len(message.removed)
                )
                self._bus.publish(subject, message.SerializeToString())

    def _knows_model(self, state: _Followed) -> bool:
        """Whether it is known, or will not be: a replay does not say which model it is of."""
        return state.topic is not None or all(
            self._base_model(pool) for pool in self._registry.pools_of(state.endpoint.uid)
        )

    def _base_model(self, pool: str) -> str:
        """Of a pool that serves one; empty: it does not say, or has several names."""
        config = self._registry.pools()[pool].config
        names = config.served_models - config.lora_adapters
        return next(iter(names)) if len(names) == 1 else ""

    def _kv(self, state: _Followed, pool: str) -> EndpointKv:
        block_tokens = self._registry.pools()[pool].config.prefix_block_tokens
        model = self._base_model(pool) or _model_of(state.topic or b"")
        known = state.pools.get(pool)
        if known is None or (known.base_model, known.block_tokens) != (model, block_tokens):
            known = state.pools[pool] = EndpointKv(
                pool, state.endpoint.uid, state.endpoint.engine, model, block_tokens
            )
        return known

    def _url(self, endpoint: DiscoveredEndpoint) -> str:
        return endpoint.kv_events_url or _at(endpoint, self._ports.events)

    def _replay_url(self, endpoint: DiscoveredEndpoint) -> str:
        if endpoint.kv_events_url:
            return endpoint.kv_replay_url
        return endpoint.kv_replay_url or _at(endpoint, self._ports.replay)


def _at(endpoint: DiscoveredEndpoint, port: int) -> str:
    """Ranks publish on ports that follow each other (vLLM: the port plus the rank)."""
    ip = ip_of(endpoint.address)
    host = f"[{ip}]" if ":" in ip else ip
    return f"tcp://{host}:{port + endpoint.rank}" if port else ""


def _model_of(topic: bytes) -> str:
    """The last part of `kv@<address>@<model>`, the form that llm-d uses."""
    parts = topic.decode(errors="replace").split("@")
    return parts[2] if len(parts) == 3 else ""
