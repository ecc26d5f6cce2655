"""The datalayer beside two vLLM engines: metrics, KV events, prefix cache, crash and restart."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nats
import pytest
import yaml
from nats.aio.msg import Msg
from support.polling import await_until, wait_until
from support.ports import free_port
from support.processes import start_module, start_nats, wait_ready

from pointsman_common import subjects
from pointsman_common.contracts import events_pb2, pool_pb2
from pointsman_common.endpoint import Endpoint
from pointsman_common.pool_view import PoolView

from .conftest import MODEL, Engine

pytestmark = pytest.mark.timeout(900)

POOL = "default/real"
SHARED = "the quick brown fox jumps over the lazy dog 0123456789 " * 40


@pytest.fixture(scope="module")
def bus_url(engines: list[Engine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a NATS on which a datalayer tells of the engines."""
    folder = tmp_path_factory.mktemp("datalayer")
    port = free_port()
    bus = start_nats(port, folder / "nats.log")
    wait_until("nats", lambda: "Server is ready" in bus.output())
    admin = f"127.0.0.1:{free_port()}"
    (folder / "pool.yaml").write_text(manifests(engines))
    datalayer = start_module(
        "pointsman_datalayer",
        folder / "datalayer.log",
        {
            "DATALAYER_LISTEN_ADDRESS": f"127.0.0.1:{free_port()}",
            "DATALAYER_ADMIN_ADDRESS": admin,
            "DATALAYER_BUS_URL": f"nats://127.0.0.1:{port}",
            "DATALAYER_REDIS_URL": "",
            "DATALAYER_MANIFESTS_PATH": str(folder / "pool.yaml"),
            "DATALAYER_CONFIG": str(write_settings(folder)),
        },
    )
    wait_ready(datalayer, f"http://{admin}")
    yield f"nats://127.0.0.1:{port}"
    datalayer.stop()
    bus.stop()


def write_settings(folder: Path) -> Path:
    models = {"type": "models-data-source", "interval_s": 1.0}
    models["extractors"] = [{"type": "models-data-extractor"}]
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump({"data_sources": [models]}))
    return path


def manifests(engines: list[Engine]) -> str:
    pool = {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "real", "annotations": {"pointsman.dev/served-models": MODEL}},
        "spec": {"selector": {"matchLabels": {"app": "v"}}, "targetPorts": [{"number": 8000}]},
    }
    listed = [
        {
            "name": f"engine-{number}",
            "uid": f"engine-{number}",
            "address": "127.0.0.1",
            "port": engine.port,
            "labels": {"app": "v", "llm-d.ai/engine-type": "vllm"},
            "kvEventsUrl": f"tcp://127.0.0.1:{engine.kv_port}",
            "kvReplayUrl": f"tcp://127.0.0.1:{engine.replay_port}",
        }
        for number, engine in enumerate(engines)
    ]
    return yaml.safe_dump_all([pool, {"endpoints": listed}])


@dataclass
class Reader:
    """What the bus tells."""

    view: PoolView = field(default_factory=lambda: PoolView(max_age_s=10.0))
    stored: dict[str, set[int]] = field(default_factory=dict)
    """Hashes of the blocks that each endpoint holds."""
    chains: set[str] = field(default_factory=set)
    cleared: list[str] = field(default_factory=list)

    async def hear(self, message: Msg) -> None:
        now = time.monotonic()
        if message.subject == subjects.pool_snapshot(POOL):
            self.view.apply_snapshot(pool_pb2.PoolSnapshot.FromString(message.data), now)
        elif message.subject == subjects.pool_delta(POOL):
            self.view.apply_delta(pool_pb2.PoolDelta.FromString(message.data), now)
        elif ".kv." in message.subject:
            self._take(events_pb2.KvEvents.FromString(message.data))

    def _take(self, events: events_pb2.KvEvents) -> None:
        held = self.stored.setdefault(events.endpoint_uid, set())
        if events.cleared:
            held.clear()
            self.cleared.append(events.endpoint_uid)
        held |= {block.hash for block in events.stored}
        held -= set(events.removed)
        self.chains.add(events.chain)

    def endpoint(self, number: int) -> Endpoint:
        record = self.view.get(POOL)
        assert record is not None
        return record.endpoints[f"engine-{number}"]

    def held(self, number: int) -> set[int]:
        return self.stored.get(f"engine-{number}", set())


@pytest.fixture
async def reader(bus_url: str) -> AsyncIterator[Reader]:
    heard = Reader()
    client = await nats.connect(bus_url)
    await client.subscribe(f"{subjects.PREFIX}.>", cb=heard.hear)

    async def all_ready() -> bool:
        return all(heard.endpoint(number).ready for number in (0, 1))

    await await_until("both engines", all_ready, timeout_s=60.0)
    yield heard
    await client.close()


async def test_metrics_of_real_engines_are_read_in_full(reader: Reader) -> None:
    for number in (0, 1):
        metrics = reader.endpoint(number).metrics
        assert (metrics.waiting_requests, metrics.running_requests) == (0, 0)
        assert metrics.kv_cache_utilization is not None
        assert metrics.block_size_tokens is not None and metrics.block_size_tokens > 0
        assert metrics.kv_cache_blocks is not None and metrics.kv_cache_blocks > 0


async def test_the_models_that_an_engine_lists_are_attributes(reader: Reader) -> None:
    async def listed() -> bool:
        name = f"/v1/models/{MODEL}"
        return all(reader.endpoint(n).metrics.attributes.get(name) == 1.0 for n in (0, 1))

    await await_until("the models", listed, timeout_s=30.0)


async def test_room_for_adapters_is_told_by_the_engine_that_has_it(
    reader: Reader, engines: list[Engine]
) -> None:
    await asyncio.to_thread(engines[1].complete, "hello")

    async def told() -> bool:
        return reader.endpoint(1).metrics.max_loras == 2

    await await_until("max_loras", told, timeout_s=30.0)
    assert reader.endpoint(0).metrics.max_loras is None


async def test_kv_events_tell_what_is_held_and_a_shared_prefix_is_found_where_it_was_sent(
    reader: Reader, engines: list[Engine]
) -> None:
    first, other = engines
    await asyncio.to_thread(first.complete, SHARED)

    async def told() -> bool:
        return len(reader.held(0)) > 0

    await await_until("blocks of the first prompt", told, timeout_s=30.0)
    held, before = len(reader.held(0)), first.cached_tokens()
    assert not reader.held(1) or reader.held(1).isdisjoint(reader.held(0))
    for number in range(5):
        await asyncio.to_thread(first.complete, f"{SHARED}{number}")
    hits, queries = (now - then for now, then in zip(first.cached_tokens(), before, strict=True))
    assert hits > 0.5 * queries, "most of each prompt was there"
    assert len(reader.held(0)) < 2 * held, "the shared blocks were stored once"
    cold = other.cached_tokens()
    await asyncio.to_thread(other.complete, SHARED)
    assert other.cached_tokens()[0] == cold[0], "the other engine has none of it"


async def test_an_engine_that_is_killed_is_dropped_and_comes_back_with_an_empty_cache(
    reader: Reader, engines: list[Engine]
) -> None:
    await asyncio.to_thread(engines[0].complete, f"once more {SHARED}")

    async def held() -> bool:
        return len(reader.held(0)) > 0

    await await_until("blocks", held, timeout_s=30.0)
    epoch = reader.endpoint(0).epoch
    engines[0].process.kill()

    async def dropped() -> bool:
        return not reader.endpoint(0).ready

    await await_until("it is dropped", dropped, timeout_s=10.0)
    assert reader.endpoint(1).ready
    engines[0].process.restart()
    await asyncio.to_thread(engines[0].wait)

    async def back() -> bool:
        return reader.endpoint(0).ready and reader.endpoint(0).epoch == epoch + 1

    await await_until("it is back", back, timeout_s=30.0)

    async def cleared() -> bool:
        return "engine-0" in reader.cleared and not reader.held(0)

    await await_until("its cache is told as gone", cleared, timeout_s=30.0)
    await asyncio.to_thread(engines[0].complete, SHARED)
    await await_until("it tells again", held, timeout_s=30.0)
