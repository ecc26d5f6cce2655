"""What any datalayer must pass.

    DATALAYER_UNDER_TEST=host:port BUS_URL=nats://host:port pytest <this file>

A datalayer under test must know at least one pool with an endpoint. The suite speaks only protobuf,
over gRPC and NATS: field meanings are those of pool.proto, subjects those of subjects.py.
"""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nats
import pytest
import yaml
from nats.aio.msg import Msg
from support.metrics_target import EngineState, MetricsTarget
from support.polling import await_until
from support.ports import free_port
from support.processes import Process

from pointsman_common import subjects
from pointsman_common.contracts import pool_pb2
from pointsman_common.contracts.events_pb2 import LayerHeartbeat
from pointsman_common.contracts.layer_pb2 import DescribeRequest, DescribeResponse, Envelope
from pointsman_common.endpoint import Endpoint
from pointsman_common.pool_view import PoolView
from wire import Channel

GET_SNAPSHOT = "/pointsman.pool.v1.Pool/GetSnapshot"
DESCRIBE = "/pointsman.layer.v1.Layer/Describe"
POOL = "default/contract"


@pytest.fixture(scope="module")
def under_test_and_bus(
    under_test: Callable[[str], str | None],
    start_service: Callable[[str, Mapping[str, str]], Process],
    wait_ready: Callable[[Process, str], None],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> tuple[str, str]:
    given = under_test("datalayer")
    if given:
        return given, os.environ["BUS_URL"]
    bus_url: str = request.getfixturevalue("nats_url")
    target = MetricsTarget({str(index): EngineState(waiting=index) for index in range(3)})
    request.addfinalizer(target.close)
    manifests = tmp_path_factory.mktemp("manifests")
    _write_manifests(manifests, target)
    listen, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    service = start_service(
        "pointsman_datalayer",
        {
            "DATALAYER_LISTEN_ADDRESS": listen,
            "DATALAYER_ADMIN_ADDRESS": admin,
            "DATALAYER_BUS_URL": bus_url,
            "DATALAYER_REDIS_URL": "",
            "DATALAYER_MANIFESTS_PATH": str(manifests),
        },
    )
    wait_ready(service, f"http://{admin}")
    return listen, bus_url


def _write_manifests(folder: Path, target: MetricsTarget) -> None:
    pool = {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "contract"},
        "spec": {"selector": {"matchLabels": {"app": "c"}}, "targetPorts": [{"number": 8000}]},
    }
    endpoints = [
        {
            "name": f"engine-{index}",
            "address": f"10.0.0.{index}",
            "labels": {"app": "c"},
            "metricsUrl": target.url(str(index)),
        }
        for index in range(3)
    ]
    documents = yaml.safe_dump_all([pool, {"endpoints": endpoints}])
    (folder / "all.yaml").write_text(documents)


class Datalayer:
    """The one under test: its hook, and what it has told on the bus since the test began."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.heard: list[tuple[str, bytes]] = []

    async def hear(self, message: Msg) -> None:
        self.heard.append((message.subject, message.data))

    async def get_snapshot(self, pool: str = "") -> list[pool_pb2.PoolState]:
        asked = pool_pb2.GetSnapshotRequest(pool=pool).SerializeToString()
        reply = await self._channel.unary(GET_SNAPSHOT, asked, timeout_s=5)
        return list(pool_pb2.GetSnapshotResponse.FromString(reply).pools)

    async def a_pool(self) -> str:
        """A pool of its that has endpoints, whose metrics were read."""

        async def find() -> str:
            return next(
                state.snapshot.pool
                for state in await self.get_snapshot()
                if state.snapshot.endpoints
                and all(item.metrics.HasField("age_ms") for item in state.snapshot.endpoints)
            )

        return await await_until("a pool with endpoints", find)

    async def describe(self) -> DescribeResponse:
        asked = DescribeRequest().SerializeToString()
        return DescribeResponse.FromString(await self._channel.unary(DESCRIBE, asked, timeout_s=5))

    async def hear_until(self, what: str, count: int, subject: str) -> list[bytes]:
        """Wait for a number of messages on one subject."""

        async def enough() -> bool:
            return len(self.on(subject)) >= count

        await await_until(what, enough)
        return self.on(subject)

    def on(self, subject: str) -> list[bytes]:
        return [payload for name, payload in self.heard if name == subject]


@pytest.fixture
async def datalayer(under_test_and_bus: tuple[str, str]) -> AsyncIterator[Datalayer]:
    address, bus_url = under_test_and_bus
    async with Channel(address, max_message_bytes=80 << 20) as channel:
        tested = Datalayer(channel)
        client = await nats.connect(bus_url)
        await client.subscribe(f"{subjects.PREFIX}.>", cb=tested.hear)
        await client.flush()
        yield tested
        await client.close()


def _position(envelope: Envelope) -> tuple[str, int, int]:
    return envelope.publisher, envelope.epoch, envelope.sequence


async def test_it_says_that_it_is_a_datalayer_of_contract_v1(datalayer: Datalayer) -> None:
    described = await datalayer.describe()
    assert (described.layer, described.contract_version) == ("datalayer", "v1")
    assert described.name
    assert described.replica


async def test_get_snapshot_without_a_pool_answers_every_pool(datalayer: Datalayer) -> None:
    await datalayer.a_pool()
    states = await datalayer.get_snapshot()
    names = [state.config.pool for state in states]
    assert len(set(names)) == len(names)
    for state in states:
        namespace, slash, name = state.config.pool.partition("/")
        assert namespace and slash and name
        assert state.snapshot.pool == state.config.pool
        assert state.config.hash
        assert state.snapshot.config_hash == state.config.hash
        assert state.snapshot.envelope.publisher == (await datalayer.describe()).replica


async def test_get_snapshot_of_one_pool_answers_that_one(datalayer: Datalayer) -> None:
    pool = await datalayer.a_pool()
    assert [state.config.pool for state in await datalayer.get_snapshot(pool)] == [pool]


async def test_get_snapshot_of_an_unknown_pool_is_an_empty_answer(datalayer: Datalayer) -> None:
    assert await datalayer.get_snapshot("no-such-namespace/no-such-pool") == []


async def test_endpoints_are_complete_and_their_uids_are_their_own(datalayer: Datalayer) -> None:
    (state,) = await datalayer.get_snapshot(await datalayer.a_pool())
    endpoints = state.snapshot.endpoints
    assert len({endpoint.uid for endpoint in endpoints}) == len(endpoints)
    for endpoint in endpoints:
        host, _, port = endpoint.address.rpartition(":")
        assert endpoint.uid and endpoint.name and host and port.isdecimal()
        assert endpoint.engine
        assert endpoint.ready == (endpoint.not_ready_reason == "")
        assert 0 <= endpoint.metrics.kv_cache_utilization <= 1


async def test_an_answer_tells_the_age_of_its_metrics_now(datalayer: Datalayer) -> None:
    pool = await datalayer.a_pool()
    for _ in range(5):
        (state,) = await datalayer.get_snapshot(pool)
        ages = [endpoint.metrics.age_ms for endpoint in state.snapshot.endpoints]
        assert max(ages) < 3_000


async def test_asking_uses_up_no_sequence(datalayer: Datalayer) -> None:
    pool = await datalayer.a_pool()
    asked = [
        _position(state.snapshot.envelope)
        for _ in range(50)
        for state in await datalayer.get_snapshot(pool)
    ]
    datalayer.heard.clear()
    await datalayer.hear_until("a snapshot", 1, subjects.pool_snapshot(pool))
    first = _state_messages(datalayer, pool)[0]
    assert first.envelope.sequence - asked[0][2] < 50, "fifty answers are no fifty messages"


async def test_configuration_is_told_again_and_again(datalayer: Datalayer) -> None:
    pool = await datalayer.a_pool()
    payloads = await datalayer.hear_until("two configurations", 2, subjects.pool_config(pool))
    first, second = (pool_pb2.PoolConfig.FromString(payload) for payload in payloads[:2])
    assert second.envelope.sequence == first.envelope.sequence + 1
    (state,) = await datalayer.get_snapshot(pool)
    assert first.hash == second.hash == state.config.hash
    for message in (first, second, state.config):
        message.ClearField("envelope")
    assert first == second == state.config


def _state_messages(
    datalayer: Datalayer, pool: str
) -> list[pool_pb2.PoolSnapshot | pool_pb2.PoolDelta]:
    """Snapshots and deltas of the replica that is asked, in the order of their sequence.

    NATS keeps the order of one subject, not that of two.
    """
    found: list[pool_pb2.PoolSnapshot | pool_pb2.PoolDelta] = [
        *map(pool_pb2.PoolSnapshot.FromString, datalayer.on(subjects.pool_snapshot(pool))),
        *map(pool_pb2.PoolDelta.FromString, datalayer.on(subjects.pool_delta(pool))),
    ]
    return sorted(found, key=lambda message: message.envelope.sequence)


async def test_snapshots_and_deltas_follow_one_sequence(datalayer: Datalayer) -> None:
    pool = await datalayer.a_pool()
    datalayer.heard.clear()
    await datalayer.hear_until("three snapshots", 3, subjects.pool_snapshot(pool))
    replica = (await datalayer.describe()).replica
    told = [
        message
        for message in _state_messages(datalayer, pool)
        if message.envelope.publisher == replica
    ]
    sequences = [message.envelope.sequence for message in told]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    assert len({message.envelope.epoch for message in told}) == 1
    assert all(message.envelope.sent_at > 0 for message in told)


async def test_a_snapshot_comes_at_least_every_two_seconds(datalayer: Datalayer) -> None:
    pool = await datalayer.a_pool()
    payloads = await datalayer.hear_until("three snapshots", 3, subjects.pool_snapshot(pool))
    sent = [pool_pb2.PoolSnapshot.FromString(payload).envelope.sent_at for payload in payloads]
    assert max(later - earlier for earlier, later in pairwise(sent)) < 2.0


async def test_a_reader_that_applies_deltas_knows_what_get_snapshot_answers(
    datalayer: Datalayer,
) -> None:
    pool = await datalayer.a_pool()
    datalayer.heard.clear()
    await datalayer.hear_until("three snapshots", 3, subjects.pool_snapshot(pool))
    await datalayer.hear_until("a delta", 1, subjects.pool_delta(pool))

    async def agrees() -> bool:
        (state,) = await datalayer.get_snapshot(pool)
        asked, told = PoolView(max_age_s=5), PoolView(max_age_s=5)
        asked.apply_snapshot(state.snapshot, 0.0)
        for message in _from_first_snapshot(_state_messages(datalayer, pool)):
            if isinstance(message, pool_pb2.PoolDelta):
                assert told.apply_delta(message, 0.0), "no message is missing"
            else:
                told.apply_snapshot(message, 0.0)
        return _state(asked, pool) == _state(told, pool)

    await await_until("the two to agree", agrees)


def _from_first_snapshot(
    messages: list[pool_pb2.PoolSnapshot | pool_pb2.PoolDelta],
) -> list[pool_pb2.PoolSnapshot | pool_pb2.PoolDelta]:
    first = next(
        index
        for index, message in enumerate(messages)
        if isinstance(message, pool_pb2.PoolSnapshot)
    )
    return messages[first:]


def _state(view: PoolView, pool: str) -> dict[str, Endpoint]:
    """The endpoints but for the ages of their metrics, which differ from message to message."""
    record = view.get(pool)
    assert record is not None
    return {
        uid: replace(endpoint, metrics=replace(endpoint.metrics, read_at=None))
        for uid, endpoint in record.endpoints.items()
    }


async def test_it_tells_that_it_lives(datalayer: Datalayer) -> None:
    replica = (await datalayer.describe()).replica

    async def beat() -> LayerHeartbeat:
        return next(
            message
            for message in map(LayerHeartbeat.FromString, datalayer.on(subjects.HEARTBEAT))
            if message.envelope.publisher == replica
        )

    heard = await await_until("a heartbeat", beat)
    assert heard.description.layer == "datalayer"
    assert await datalayer.a_pool() in heard.pools
