"""A scripted story of a cluster, told to a datalayer that runs, and what its readers then know.

KUBECONFIG=… pytest <this file>     the same against a real cluster, but for what breaks it
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import httpx
import pytest
from support.kubernetes_cluster import (
    Cluster,
    a_kubernetes_objective,
    a_kubernetes_pod,
    a_kubernetes_pool,
    a_kubernetes_rewrite,
    cluster,
)
from support.polling import await_until
from support.ports import free_port
from support.processes import Process, wait_ready

from pointsman_common.contracts import pool_pb2
from wire import Channel

GET_SNAPSHOT = "/pointsman.pool.v1.Pool/GetSnapshot"
WITHIN_S = 1.0
"""How long a change may take from the API server to a reader, on a machine that is not busy."""
BUSY_S = 20.0


class Story:
    """The datalayer that runs, and how long each change took to reach a reader."""

    def __init__(self, there: Cluster, channel: Channel, admin: str) -> None:
        self.there, self._channel, self.admin = there, channel, admin
        self.took_s: dict[str, float] = {}

    async def state(self) -> pool_pb2.PoolState:
        asked = pool_pb2.GetSnapshotRequest(pool=f"{self.there.namespace}/llama")
        reply = await self._channel.unary(GET_SNAPSHOT, asked.SerializeToString(), timeout_s=5)
        (state,) = pool_pb2.GetSnapshotResponse.FromString(reply).pools
        return state

    async def comes(self, what: str, check: Callable[[pool_pb2.PoolState], bool]) -> None:
        began = time.monotonic()

        async def checked() -> bool:
            return check(await self.state())

        await await_until(what, checked, timeout_s=BUSY_S)
        self.took_s[what] = time.monotonic() - began


def addresses(state: pool_pb2.PoolState) -> set[str]:
    return {endpoint.address for endpoint in state.snapshot.endpoints}


def weights(state: pool_pb2.PoolState) -> list[int]:
    return [target.weight for rule in state.config.model_rules for target in rule.targets]


def canary(weight: int) -> dict[str, object]:
    targets = [
        {"modelRewrite": "a", "weight": weight},
        {"modelRewrite": "b", "weight": 100 - weight},
    ]
    return a_kubernetes_rewrite("canary", {"targets": targets})


@pytest.fixture
async def story(
    start_service: Callable[[str, Mapping[str, str]], Process],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> AsyncIterator[Story]:
    bus_url: str = request.getfixturevalue("nats_url")
    async with cluster(tmp_path) as there:
        await there.apply(a_kubernetes_pool())
        listen, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        service = start_service(
            "pointsman_datalayer",
            {
                "DATALAYER_DISCOVERY": "kubernetes",
                "DATALAYER_KUBECONFIG": str(there.kubeconfig),
                "DATALAYER_LISTEN_ADDRESS": listen,
                "DATALAYER_ADMIN_ADDRESS": admin,
                "DATALAYER_BUS_URL": bus_url,
                "DATALAYER_REDIS_URL": "",
                "DATALAYER_MANIFESTS_PATH": str(tmp_path / "none"),
            },
        )
        await asyncio.to_thread(wait_ready, service, f"http://{admin}")
        async with Channel(listen) as channel:
            yield Story(there, channel, admin)


async def test_routing_follows_the_cluster_through_good_and_bad_days(story: Story) -> None:
    there = story.there
    await there.apply(a_kubernetes_pod("a", "127.0.0.2"))
    await story.comes("a pod", lambda state: addresses(state) == {"127.0.0.2:8000"})
    await there.apply(a_kubernetes_pod("b", "127.0.0.3"))
    await story.comes("another pod", lambda state: len(addresses(state)) == 2)
    await there.apply(a_kubernetes_pod("a", "127.0.0.2", ready=False))
    await story.comes("one less", lambda state: addresses(state) == {"127.0.0.3:8000"})
    await there.apply(canary(90))
    await story.comes("a rewrite", lambda state: weights(state) == [90, 10])
    await there.apply(canary(50))
    await story.comes("its new weights", lambda state: weights(state) == [50, 50])
    await there.apply(a_kubernetes_objective("high", 10))
    await story.comes("an objective", lambda state: len(state.config.objectives) == 1)
    await there.delete(a_kubernetes_objective("high", 10))
    await story.comes("no objective", lambda state: len(state.config.objectives) == 0)

    server = there.server
    await server.stop()
    server.compact()  # and all streams are 410 Gone when it is back
    await asyncio.sleep(0.5)
    assert addresses(await story.state()) == {"127.0.0.3:8000"}
    await server.start()
    await there.apply(a_kubernetes_pod("c", "127.0.0.4"))
    await story.comes("a pod after the restart", lambda state: len(addresses(state)) == 2)
    server.expire_streams()
    await there.apply(canary(10))
    await story.comes("weights after a 410", lambda state: weights(state) == [10, 90])

    await there.delete(a_kubernetes_pool())
    await story.comes("the pool gone", lambda state: state.snapshot.gone)
    # The median is what the code takes; one step alone may have met a busy machine, or a backoff.
    assert sorted(story.took_s.values())[len(story.took_s) // 2] < WITHIN_S, story.took_s


async def test_a_refused_object_is_told_by_rest_metric_and_condition(story: Story) -> None:
    assert story.there.server is not None, "a real server with the CRD refuses it by itself"
    mixed = [{"modelRewrite": "a", "weight": 1}, {"modelRewrite": "b"}]
    await story.there.apply(canary(90))
    await story.comes("a rewrite", lambda state: weights(state) == [90, 10])
    bad = a_kubernetes_rewrite("canary", {"targets": mixed})
    await story.there.apply(bad)
    async with httpx.AsyncClient(base_url=f"http://{story.admin}") as client:

        async def told() -> bool:
            found = (await client.get("/v1/discovery")).json()
            (refused,) = found["refused"]
            return found["source"] == "kubernetes" and "weight" in refused["why"]

        await await_until("the refusal", told)
        assert "pointsman_datalayer_config_refused 1.0" in (await client.get("/metrics")).text

    async def said() -> bool:
        return (await story.there.conditions(bad))["Accepted"] == ("False", "Invalid")

    await await_until("the condition", said)
    assert weights(await story.state()) == [90, 10]
