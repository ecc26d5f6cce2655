"""KV events of simulated engines, over ZeroMQ, to messages on the bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import msgspec
import pytest
import zmq
import zmq.asyncio
from support.polling import await_until
from support.ports import free_port

from pointsman_common import subjects
from pointsman_common.clock import SystemClock
from pointsman_common.contracts.events_pb2 import KvEvents
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_datalayer.adapters.kv_event_reader import KvEventReader, KvPorts
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_mappings import ENGINES
from pointsman_datalayer.core.engine_metrics import EngineReader
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.metrics import Metrics
from pointsman_router.core.prompt_fingerprint import block_hashes, chain_seed
from pointsman_simulator.adapters.model_server import ModelServer
from pointsman_simulator.core.engine_profile import PROFILES
from pointsman_simulator.settings import SimulatorSettings

VLLM = EngineReader(ENGINES["vllm"])
POOL, UID, BLOCK = "default/llama", "e1", 16
PROMPT = "".join(f"{number:04d}" for number in range(4 * BLOCK))  # four blocks


@dataclass
class World:
    """One simulated engine, and a reader that follows it."""

    port: int = field(default_factory=free_port)
    events_port: int = field(default_factory=free_port)
    replay_port: int = field(default_factory=free_port)
    kv_tokens: int = 4096
    served: frozenset[str] = frozenset({"llama"})
    bus: InMemoryBus = field(default_factory=InMemoryBus)
    metrics: Metrics = field(default_factory=Metrics)
    registry: EndpointRegistry = field(
        default_factory=lambda: EndpointRegistry(ReadinessLimits(3, 3.0))
    )

    def __post_init__(self) -> None:
        pool = InferencePool(name=POOL, prefix_block_tokens=BLOCK, served_models=self.served)
        address = f"127.0.0.1:{self.port}"
        endpoint = DiscoveredEndpoint(UID, "default/e-rank-0", address, {}, "vllm")
        self.registry.discover({POOL: DiscoveredPool(pool, (endpoint,))})

    @asynccontextmanager
    async def engine(self, *, replay: bool = True) -> AsyncIterator[None]:
        profile = msgspec.structs.replace(
            PROFILES["demo"], block_size=BLOCK, kv_tokens=self.kv_tokens
        )
        settings = SimulatorSettings(profile=profile, time_factor=0.1)
        server = ModelServer(
            settings,
            self.port,
            kv_events_port=self.events_port,
            kv_replay_port=self.replay_port if replay else 0,
        )
        await server.start()
        try:
            yield
        finally:
            await server.stop()

    @asynccontextmanager
    async def reader(self, *, replay: bool = True) -> AsyncIterator[None]:
        clock = SystemClock()
        reader = KvEventReader(
            self.bus,
            clock,
            EnvelopeStamp("d1", clock),
            self.registry,
            self.metrics,
            ports=KvPorts(self.events_port, self.replay_port if replay else 0),
        )
        task = asyncio.ensure_future(reader.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def ask(self, prompt: str) -> None:
        async with aiohttp.ClientSession() as session:
            body = {"model": "llama", "prompt": prompt, "max_tokens": 1}
            url = f"http://127.0.0.1:{self.port}/v1/completions"
            async with session.post(url, json=body) as response:
                assert response.status == 200

    def told(self, chain: str = "router") -> list[KvEvents]:
        sent = self.bus.sent(subjects.kv_events(POOL, UID))
        messages = [KvEvents.FromString(payload) for payload in sent]
        return [message for message in messages if message.chain == chain]

    def held(self) -> set[int]:
        """What a reader of the bus believes to be in the cache."""
        held: set[int] = set()
        for message in self.told():
            if message.cleared:
                held.clear()
            held |= {block.hash for block in message.stored}
            held -= set(message.removed)
        return held

    def count(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"pointsman_datalayer_{name}") or 0.0


def router_hashes(prompt: str) -> set[int]:
    """What the router tells of a prompt, by the router's own code."""
    seed = chain_seed("llama", "")
    return set(block_hashes([prompt.encode()], seed=seed, block_tokens=BLOCK, max_blocks=1000))


async def until(what: str, check: Callable[[], bool]) -> None:
    async def checked() -> bool:
        return check()

    await await_until(what, checked)


async def test_what_an_engine_stores_is_told_in_the_routers_own_hashes() -> None:
    world = World()
    async with world.engine(), world.reader():
        await world.ask(PROMPT)
        await until("the blocks", lambda: world.held() == router_hashes(PROMPT))
    assert {message.block_tokens for message in world.told()} == {BLOCK}
    sequences = [message.envelope.sequence for message in world.told()]
    assert sequences == sorted(set(sequences))


async def test_what_it_evicts_is_told_as_removed() -> None:
    world = World(kv_tokens=8 * BLOCK)
    async with world.engine(), world.reader():
        await world.ask(PROMPT)
        await until("the blocks", lambda: world.held() == router_hashes(PROMPT))
        other = PROMPT[::-1] + PROMPT[:64]
        await world.ask(other)
        await until("evicted", lambda: not router_hashes(PROMPT) <= world.held())
        await until("the new ones", lambda: router_hashes(other) <= world.held())


async def test_a_reader_that_starts_late_learns_what_was_told_before() -> None:
    world = World()
    async with world.engine():
        await world.ask(PROMPT)
        async with world.reader():
            await until("the replay", lambda: world.held() == router_hashes(PROMPT))


async def test_without_a_replay_a_late_reader_begins_with_nothing_and_says_so() -> None:
    world = World(served=frozenset())  # the topic says which model it is
    async with world.engine(replay=False):
        await world.ask(PROMPT)
        async with world.reader(replay=False):
            await asyncio.sleep(0.6)  # connected

            async def asked_again() -> bool:
                await world.ask(PROMPT[::-1])
                return bool(world.told())

            await await_until("an event", asked_again)
            assert world.told()[0].cleared
            assert world.count("kv_gaps_total") == 1


async def test_an_engine_that_restarts_has_lost_its_cache() -> None:
    world = World()
    async with world.reader():
        async with world.engine():
            await world.ask(PROMPT)
            await until("the blocks", lambda: world.held() == router_hashes(PROMPT))
        async with world.engine():
            # Seen by the scrapes, before it says anything itself.
            for started_at in (1.0, 100.0):
                text = f"process_start_time_seconds {started_at}\nvllm:num_requests_running 0\n"
                world.registry.record_scrape(UID, VLLM.read(text.encode(), 0.0))
            await until("cleared", lambda: world.held() == set())
            await world.ask(PROMPT[::-1])
            await until("the new", lambda: world.held() == router_hashes(PROMPT[::-1]))


async def test_an_endpoint_that_goes_is_followed_no_more_and_one_that_is_away_waited_for() -> None:
    world = World()
    async with world.reader():
        await asyncio.sleep(0.3)
        async with world.engine():

            async def heard() -> bool:
                await world.ask(PROMPT)
                return world.held() == router_hashes(PROMPT)

            await await_until("the blocks", heard)
            world.registry.discover({"default/other": DiscoveredPool(InferencePool("default/o"))})
            await asyncio.sleep(0.6)
            count = len(world.bus.sent(subjects.kv_events(POOL, UID)))
            await world.ask(PROMPT[::-1])
            await asyncio.sleep(0.3)
            assert len(world.bus.sent(subjects.kv_events(POOL, UID))) == count


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"nonsense"])
async def test_nonsense_is_counted_and_does_no_harm(payload: bytes) -> None:
    world = World()
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.PUB)
    socket.bind(f"tcp://127.0.0.1:{world.events_port}")
    try:
        async with world.reader(replay=False):

            async def noticed() -> bool:
                await socket.send_multipart([b"kv", (0).to_bytes(8, "big"), payload])
                return world.count("kv_unreadable_total") > 0

            await await_until("it notices", noticed)
            assert world.told("vllm") == []
    finally:
        context.destroy(linger=0)
