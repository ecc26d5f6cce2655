"""Conditions of the objects, written by one replica, over HTTP to an API server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from random import Random

import pytest
import yaml
from support.kubernetes_cluster import (
    Cluster,
    a_kubernetes_object,
    a_kubernetes_objective,
    a_kubernetes_pool,
    a_kubernetes_rewrite,
    cluster,
)
from support.polling import await_until

from pointsman_common.clock import SystemClock
from pointsman_datalayer.adapters.kubernetes_api import KubernetesApi
from pointsman_datalayer.adapters.kubernetes_status import KubernetesStatusWriter, LeaseTimes
from pointsman_datalayer.adapters.kubernetes_watch import KubernetesDiscovery
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.manifest_intake import ManifestIntake
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.core.watched_objects import WatchedObjects
from pointsman_datalayer.metrics import Metrics

MANIFESTS = Path(__file__).parents[4] / "deploy/manifests"
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "pointsman-datalayer-status"},
}
ACCEPTED, RESOLVED = ("True", "Accepted"), ("True", "ResolvedRefs")


@dataclass
class Replica:
    """Discovery and status writer of one datalayer."""

    there: Cluster
    name: str
    times: LeaseTimes = field(default_factory=lambda: LeaseTimes(duration_s=2.0, renew_s=0.3))
    metrics: Metrics = field(default_factory=Metrics)
    writer: KubernetesStatusWriter | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Replica"]:
        api = await KubernetesApi.connect(str(self.there.kubeconfig))
        objects, clock = WatchedObjects(), SystemClock()
        intake = ManifestIntake(EndpointRegistry(ReadinessLimits(3, 3.0)), objects)
        discovery = KubernetesDiscovery(
            api,
            clock,
            objects,
            intake,
            self.metrics,
            namespaces=[self.there.namespace],
            watch_timeout_s=30.0,
            rng=Random(1),
        )
        self.writer = KubernetesStatusWriter(
            api,
            clock,
            objects,
            intake,
            self.metrics,
            identity=self.name,
            rng=Random(1),
            times=self.times,
        )
        tasks = [asyncio.ensure_future(part.run()) for part in (discovery, self.writer, api)]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def written(self, result: str = "written") -> float:
        name = "pointsman_datalayer_kubernetes_status_writes_total"
        return self.metrics.registry.get_sample_value(name, {"result": result}) or 0.0

    def leads(self) -> bool:
        name = "pointsman_datalayer_kubernetes_leads"
        return self.metrics.registry.get_sample_value(name) == 1.0


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as opened:
        yield opened


async def says(there: Cluster, obj: dict[str, object], **wanted: tuple[str, str]) -> None:
    """Wait until an object has exactly these conditions."""

    async def said() -> bool:
        return await there.conditions(obj) == wanted

    await await_until(f"{obj['kind']} says {wanted}", said)


async def test_what_is_in_force_is_accepted_and_what_is_missing_is_told(there: Cluster) -> None:
    pool, objective = a_kubernetes_pool(), a_kubernetes_objective("high", 10)
    await there.apply(objective)
    async with Replica(there, "a").running():
        await says(there, objective, Accepted=ACCEPTED, ResolvedRefs=("False", "PoolNotFound"))
        await there.apply(pool)
        await says(there, objective, Accepted=ACCEPTED, ResolvedRefs=RESOLVED)
        await says(there, pool, Accepted=ACCEPTED)
        (parent,) = (await there.get(pool))["status"]["parents"]
        assert parent["controllerName"] == "pointsman.dev/datalayer"
        assert parent["parentRef"]["name"] == "pointsman"


async def test_a_refused_object_says_why(there: Cluster) -> None:
    assert there.server is not None, "a real server with the CRD refuses it by itself"
    mixed = [{"modelRewrite": "a", "weight": 1}, {"modelRewrite": "b"}]
    rewrite = a_kubernetes_rewrite("r", {"targets": mixed})
    await there.apply(a_kubernetes_pool())
    await there.apply(rewrite)
    async with Replica(there, "a").running():
        await says(there, rewrite, Accepted=("False", "Invalid"))
        (condition,) = (await there.get(rewrite))["status"]["conditions"]
        assert "either all targets have a weight or none" in condition["message"]
        assert condition["observedGeneration"] == 1
        await there.apply(a_kubernetes_rewrite("r", {"targets": [{"modelRewrite": "a"}]}))
        await says(there, rewrite, Accepted=ACCEPTED, ResolvedRefs=RESOLVED)


async def test_a_model_whose_name_an_older_one_has_says_so(there: Cluster) -> None:
    def model(name: str) -> dict[str, object]:
        spec = {"modelName": "chat", "poolRef": {"name": "llama"}}
        api = "inference.networking.x-k8s.io/v1alpha2"
        return a_kubernetes_object(api, "InferenceModel", name, spec)

    await there.apply(a_kubernetes_pool())
    await there.apply(model("a"))
    await there.apply(model("b"))
    async with Replica(there, "x").running():
        await says(there, model("a"), Accepted=ACCEPTED, ResolvedRefs=RESOLVED)
        in_use = ("False", "ModelNameInUse")
        await says(there, model("b"), Accepted=in_use, ResolvedRefs=RESOLVED)


async def test_what_others_wrote_is_kept_and_nothing_is_written_twice(there: Cluster) -> None:
    gateway = {
        "parentRef": {"kind": "Gateway", "name": "g"},
        "controllerName": "example.org/gateway",
        "conditions": [],
    }
    pool = a_kubernetes_pool() | {"status": {"parents": [gateway]}}
    theirs = {
        "type": "Ready",
        "status": "Unknown",
        "reason": "Pending",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    objective = a_kubernetes_objective("high", 1) | {"status": {"conditions": [theirs]}}
    await there.apply(pool)
    await there.apply(objective)
    async with Replica(there, "a").running() as replica:
        await says(
            there,
            objective,
            Ready=("Unknown", "Pending"),
            Accepted=ACCEPTED,
            ResolvedRefs=RESOLVED,
        )
        await says(there, pool, Accepted=ACCEPTED)
        parents = (await there.get(pool))["status"]["parents"]
        assert [parent["controllerName"] for parent in parents] == [
            "example.org/gateway",
            "pointsman.dev/datalayer",
        ]
        written = replica.written()
        await asyncio.sleep(2.5)  # two rounds
        assert replica.written() == written == 2


async def test_a_conflict_is_mended_by_the_next_round(there: Cluster) -> None:
    """The status is changed by another between our look and our patch."""
    server, pool = there.server, a_kubernetes_pool()
    server.faults.silent = True  # our view grows old
    await there.apply(pool)
    async with Replica(there, "a").running() as replica:
        await says(there, pool, Accepted=ACCEPTED)
        await there.apply(a_kubernetes_pool(app="other"))

        async def conflicted() -> bool:
            # What we believe has no parents of ours yet, so each round patches an old version.
            return replica.written("conflict") > 0

        await await_until("a conflict", conflicted)
        server.faults.silent = False
        server.expire_streams()
        conflicts = replica.written("conflict")
        await says(there, pool, Accepted=ACCEPTED)
        await asyncio.sleep(1.5)
        assert replica.written("conflict") <= conflicts + 1


async def test_one_of_two_replicas_writes_and_the_other_takes_over(there: Cluster) -> None:
    await there.apply(a_kubernetes_pool())
    first, second = Replica(there, "a"), Replica(there, "b")
    async with second.running():
        async with first.running():

            async def one_leads() -> bool:
                return first.leads() != second.leads()

            await await_until("a leader", one_leads)
            await says(there, a_kubernetes_pool(), Accepted=ACCEPTED)
            assert {first.written(), second.written()} == {0.0, 1.0}
            leader, other = (first, second) if first.leads() else (second, first)
            assert leader.writer is not None
            if leader is second:
                return  # the one that stays leads already

        async def taken_over() -> bool:
            return other.leads()

        await await_until("the other leads", taken_over)
        objective = a_kubernetes_objective("late", 1)
        await there.apply(objective)
        await says(there, objective, Accepted=ACCEPTED, ResolvedRefs=RESOLVED)
        spec = (await there.get(LEASE))["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == (other.name, 2)


async def test_a_replica_that_drains_gives_the_lease_up_at_once(there: Cluster) -> None:
    times = LeaseTimes(duration_s=600.0, renew_s=0.3)
    async with Replica(there, "a", times).running() as first:

        async def leads() -> bool:
            return first.leads()

        await await_until("it leads", leads)
        assert first.writer is not None
        await first.writer.drain(1.0)
    async with Replica(there, "b", times).running() as second:

        async def leads_now() -> bool:
            return second.leads()

        await await_until("the next leads", leads_now)


async def test_the_rights_that_are_shipped_are_those_that_are_used(there: Cluster) -> None:
    server, ref = there.server, {"poolRef": {"name": "llama"}}
    old, new = "inference.networking.x-k8s.io", "llm-d.ai"
    of_a_pool = [
        *(a_kubernetes_objective(f"o-{group}", 1, group=group) for group in (old, new)),
        *(
            a_kubernetes_rewrite("r", {"targets": [{"modelRewrite": "a"}]}, group=group)
            for group in (old, new)
        ),
        a_kubernetes_object(
            f"{old}/v1alpha2", "InferenceModel", "m", {"modelName": "m", "poolRef": ref["poolRef"]}
        ),
        a_kubernetes_object("pointsman.dev/v1alpha1", "RoutePolicy", "p", dict(ref)),
    ]
    for obj in (a_kubernetes_pool(), *of_a_pool):
        await there.apply(obj)
    async with Replica(there, "a").running() as replica:

        async def written() -> bool:
            assert replica.writer is not None
            return replica.written() == 1 + len(of_a_pool)

        await await_until("every status", written)
        assert replica.writer is not None
        await replica.writer.drain(1.0)
    assert server.asked == set(granted("rbac.yaml"))
    assert server.asked == set(granted("rbac-every-namespace.yaml"))


def granted(file: str) -> Iterator[tuple[str, str, str]]:
    """Verb, API group and resource of every right that a file grants."""
    for document in yaml.safe_load_all((MANIFESTS / "kubernetes" / file).read_text()):
        for rule in document.get("rules", ()):
            yield from product(rule["verbs"], rule["apiGroups"], rule["resources"])


async def test_without_the_right_to_leases_nothing_is_written_and_discovery_goes_on(
    there: Cluster,
) -> None:
    there.server.faults.status["leases"] = 403
    await there.apply(a_kubernetes_pool())
    async with Replica(there, "a").running() as replica:
        await asyncio.sleep(1.5)
        assert not replica.leads() and replica.written() == 0
        assert there.server.patches == []
