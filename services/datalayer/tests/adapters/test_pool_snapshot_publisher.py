"""What is told on the bus, and that it agrees with what is answered over RPC."""

import pytest

from pointsman_common import subjects
from pointsman_common.contracts import pool_pb2
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.inference_pool import InferencePool
from pointsman_common.pool_subscriber import GET_SNAPSHOT
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_datalayer.adapters.pool_rpc_server import pool_hooks
from pointsman_datalayer.adapters.pool_snapshot_publisher import PoolSnapshotPublisher
from pointsman_datalayer.app import digest_limits
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_mappings import ENGINES
from pointsman_datalayer.core.engine_metrics import EngineReader
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.pool_digest import PoolDigests
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.metrics import Metrics
from pointsman_datalayer.settings import DatalayerSettings

POOL = "default/llama"
SETTINGS = DatalayerSettings()


class World:
    def __init__(self) -> None:
        self.clock, self.bus, self.metrics = VirtualClock(), InMemoryBus(), Metrics()
        self.registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        digests = PoolDigests(self.registry, lambda _: 0, digest_limits(SETTINGS))
        self.metrics.watch(self.registry, digests, lambda _: 0, lambda: 0)
        self.publisher = PoolSnapshotPublisher(
            self.bus,
            self.clock,
            EnvelopeStamp("datalayer/a", self.clock),
            registry=self.registry,
            digests=digests,
            metrics=self.metrics,
            settings=SETTINGS,
        )

    def discover(self, *uids: str, config_hash: str = "h1") -> None:
        endpoints = tuple(DiscoveredEndpoint(uid, uid, f"{uid}:1", {}, "vllm") for uid in uids)
        config = InferencePool(name=POOL, hash=config_hash)
        self.registry.discover({POOL: DiscoveredPool(config, endpoints)})

    def scrape(self, uid: str, waiting: int) -> None:
        text = f"vllm:num_requests_waiting {waiting}\nvllm:num_requests_running 1\n"
        found = EngineReader(ENGINES["vllm"]).read(text.encode(), self.clock.monotonic())
        self.registry.record_scrape(uid, found)

    async def publish_for(self, seconds: float) -> None:
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            self.publisher.publish()
            await self.clock.advance(SETTINGS.delta_interval_s)

    def configs(self) -> list[pool_pb2.PoolConfig]:
        sent = self.bus.sent(subjects.pool_config(POOL))
        return [pool_pb2.PoolConfig.FromString(payload) for payload in sent]

    def sequences(self) -> list[int]:
        """Of snapshots and deltas in the order of their sending."""
        told: list[int] = []
        for subject, payload in self.bus.published:
            if subject == subjects.pool_snapshot(POOL):
                told.append(pool_pb2.PoolSnapshot.FromString(payload).envelope.sequence)
            elif subject == subjects.pool_delta(POOL):
                told.append(pool_pb2.PoolDelta.FromString(payload).envelope.sequence)
        return told


async def test_a_new_pool_is_told_at_once_and_its_config_every_five_seconds() -> None:
    world = World()
    world.discover("a")
    world.publisher.publish()
    assert [subject for subject, _ in world.bus.published] == [
        subjects.pool_config(POOL),
        subjects.pool_snapshot(POOL),
    ]
    await world.publish_for(10.1)
    assert [config.envelope.sequence for config in world.configs()] == [1, 2, 3]
    assert len(world.bus.sent(subjects.pool_snapshot(POOL))) in (10, 11)


async def test_a_changed_config_is_told_at_once() -> None:
    world = World()
    world.discover("a")
    world.publisher.publish()
    world.discover("a", config_hash="h2")
    world.publisher.publish()
    assert [config.hash for config in world.configs()] == ["h1", "h2"]


async def test_snapshots_and_deltas_share_one_sequence_and_make_the_state() -> None:
    world, view, complete = World(), PoolView(max_age_s=5.0), list[bool]()

    def on_snapshot(_: str, payload: bytes) -> None:
        message = pool_pb2.PoolSnapshot.FromString(payload)
        view.apply_snapshot(message, world.clock.monotonic())

    def on_delta(_: str, payload: bytes) -> None:
        message = pool_pb2.PoolDelta.FromString(payload)
        complete.append(view.apply_delta(message, world.clock.monotonic()))

    world.bus.subscribe(subjects.pool_snapshot(POOL), on_snapshot)
    world.bus.subscribe(subjects.pool_delta(POOL), on_delta)
    for step in range(60):
        if step == 20:
            world.discover("a", "b")
        if step == 40:
            world.discover("b", "c")
        if step == 0:
            world.discover("a")
        for uid in world.registry.addresses():
            world.scrape(uid, waiting=step % 3)
        await world.publish_for(0.05)
    assert world.sequences() == list(range(1, len(world.sequences()) + 1))
    assert complete
    assert all(complete)
    record = view.get(POOL)
    assert record is not None
    told = {uid: one.metrics.waiting_requests for uid, one in record.endpoints.items()}
    assert told == {"b": 2, "c": 2}
    assert all(endpoint.ready for endpoint in record.endpoints.values())


async def test_get_snapshot_answers_as_of_now_under_the_last_sequence() -> None:
    world = World()
    world.discover("a")
    world.scrape("a", waiting=3)
    world.publisher.publish()
    await world.clock.advance(0.4)
    hook = pool_hooks(world.registry, world.publisher)[GET_SNAPSHOT]

    def ask(pool: str) -> list[pool_pb2.PoolState]:
        answer = hook(pool_pb2.GetSnapshotRequest(pool=pool).SerializeToString())
        assert isinstance(answer, bytes)
        return list(pool_pb2.GetSnapshotResponse.FromString(answer).pools)

    (state,) = ask("")
    assert state.config.hash == state.snapshot.config_hash == "h1"
    assert state.config.envelope.sequence == 1
    assert state.snapshot.envelope.sequence == 1
    assert state.snapshot.endpoints[0].metrics.age_ms == 400
    assert ask(POOL)[0].snapshot.pool == POOL
    assert ask("default/unknown") == []
    world.scrape("a", waiting=4)
    world.publisher.publish()  # the answers have used up no sequence
    assert world.sequences()[-1] == 2


async def test_a_reader_that_took_an_answer_goes_on_with_the_next_delta() -> None:
    world, view = World(), PoolView(max_age_s=5.0)
    world.discover("a")
    world.publisher.publish()
    world.scrape("a", waiting=3)
    now = world.clock.monotonic()
    assert view.apply_snapshot(world.publisher.state(POOL).snapshot, now)
    world.publisher.publish()
    (payload,) = world.bus.sent(subjects.pool_delta(POOL))
    assert view.apply_delta(pool_pb2.PoolDelta.FromString(payload), now)


async def test_all_is_told_again_when_the_bus_comes_back() -> None:
    world = World()
    world.discover("a")
    world.publisher.publish()
    world.bus.take_away()
    world.bus.bring_back()
    world.publisher.publish()
    assert len(world.configs()) == 2
    assert len(world.bus.sent(subjects.pool_snapshot(POOL))) == 2


async def test_a_pool_that_went_is_told_to_be_gone_until_it_comes_back() -> None:
    world = World()
    world.discover("a")
    world.publisher.publish()
    configs = len(world.bus.sent(subjects.pool_config(POOL)))
    other = DiscoveredPool(InferencePool(name="default/other"))
    world.registry.discover({"default/other": other})
    world.publisher.publish()
    told = [
        pool_pb2.PoolSnapshot.FromString(item)
        for item in world.bus.sent(subjects.pool_snapshot(POOL))
    ]
    assert [(item.gone, len(item.endpoints)) for item in told] == [(False, 1), (True, 0)]
    assert world.publisher.state(POOL).snapshot.gone
    assert len(world.bus.sent(subjects.pool_config(POOL))) == configs, "nobody is to use it"
    world.discover("a")
    world.publisher.publish()
    last = pool_pb2.PoolSnapshot.FromString(world.bus.sent(subjects.pool_snapshot(POOL))[-1])
    assert (last.gone, len(last.endpoints)) == (False, 1)
    assert len(world.bus.sent(subjects.pool_config(POOL))) == configs + 1


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("llm_d_epp_ready_endpoints", {}, 2),
        ("inference_pool_ready_pods", {}, 2),
        ("llm_d_epp_average_queue_size", {}, 2),
        ("inference_pool_average_queue_size", {}, 2),
        ("llm_d_epp_std_dev_queue_size", {}, 2),
        ("llm_d_epp_per_endpoint_queue_size", {"model_server_endpoint": "a"}, 4),
        ("inference_pool_per_pod_queue_size", {"model_server_pod": "b"}, 0),
        ("pointsman_datalayer_lease_surplus_requests", {}, -6),
        ("pointsman_datalayer_pool_scarcity", {"regime": "abundant"}, 1),
    ],
)
async def test_gauges_tell_of_the_pool(name: str, labels: dict[str, str], value: float) -> None:
    world = World()
    world.discover("a", "b")
    world.scrape("a", waiting=4)
    world.scrape("b", waiting=0)
    world.publisher.publish()
    pool = {"name": "llama", "namespace": "default"}
    assert world.metrics.registry.get_sample_value(name, pool | labels) == value


async def test_attributes_of_further_sources_reach_a_scheduler_as_they_change() -> None:
    world, view = World(), PoolView(max_age_s=10.0)
    world.discover("a")
    world.scrape("a", 1)
    for value in (0.25, 0.75):
        world.registry.record_attributes("a", "dcgm-data-source", {"GPUUtilization": value})
        await world.publish_for(0.06)
        now = world.clock.monotonic()
        for subject, payload in world.bus.published:
            if subject == subjects.pool_snapshot(POOL):
                view.apply_snapshot(pool_pb2.PoolSnapshot.FromString(payload), now)
            elif subject == subjects.pool_delta(POOL):
                view.apply_delta(pool_pb2.PoolDelta.FromString(payload), now)
        record = view.get(POOL)
        assert record is not None
        assert record.endpoints["a"].metrics.attributes == {"GPUUtilization": value}
        assert record.endpoints["a"].metrics.waiting_requests == 1
