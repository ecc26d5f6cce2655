"""What is in force when files and objects change, each well or badly."""

from typing import Any

import pytest

from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.kubernetes_kinds import (
    CONFIG_KINDS,
    WatchTarget,
    config_targets,
    pod_target,
)
from pointsman_datalayer.core.manifest_intake import ManifestIntake
from pointsman_datalayer.core.manifests import ManifestError, read_manifests
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.core.watched_objects import WatchedObjects

POOL = "ml/llama"
TARGETS = {
    (target.resource.api_version, target.resource.kind): target for target in config_targets(["ml"])
}
PODS = pod_target(POOL, {"app": "llama"})


def an_object(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "namespace": "ml", **metadata}, "spec": spec}


def a_pool(port: int = 8000, **metadata: Any) -> dict[str, Any]:
    spec = {"selector": {"matchLabels": {"app": "llama"}}, "targetPorts": [{"number": port}]}
    return an_object("InferencePool", "llama", spec, **metadata)


def a_policy(name: str, size: int) -> dict[str, Any]:
    return an_object("RoutePolicy", name, {"poolRef": {"name": "llama"}, "text": "x" * size})


def a_pod(name: str, ip: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": "ml", "uid": f"uid-{name}", "labels": {"app": "llama"}}
    ready = [{"type": "Ready", "status": "True"}]
    return {"metadata": meta, "status": {"podIP": ip, "conditions": ready}}


class World:
    def __init__(self) -> None:
        self.registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        self.objects = WatchedObjects()
        self.intake = ManifestIntake(self.registry, self.objects)

    def put(self, target: WatchTarget, *documents: dict[str, Any]) -> bool:
        return sum(self.objects.put(target, document) for document in documents) > 0

    def take(self) -> None:
        self.intake.take(self.intake.draft())

    def config(self) -> Any:
        return self.registry.pools()[POOL].config


POOLS = TARGETS["inference.networking.k8s.io/v1", "InferencePool"]
POLICIES = TARGETS["pointsman.dev/v1alpha1", "RoutePolicy"]
OBJECTIVES = TARGETS["llm-d.ai/v1alpha2", "InferenceObjective"]


def test_every_kind_of_each_namespace_is_watched_and_the_pods_of_each_pool() -> None:
    assert len(config_targets(["a", "b"])) == 2 * len(CONFIG_KINDS)
    world = World()
    world.put(POOLS, a_pool())
    assert world.intake.draft().pod_targets() == {PODS}
    assert PODS.selector == "app=llama"
    assert PODS.resource.collection("ml") == "/api/v1/namespaces/ml/pods"
    path = POOLS.resource.item("ml", "llama")
    assert path == "/apis/inference.networking.k8s.io/v1/namespaces/ml/inferencepools/llama"


def test_a_status_that_changes_is_no_change() -> None:
    world = World()
    assert world.put(POOLS, a_pool())
    assert not world.put(POOLS, a_pool(resourceVersion="9") | {"status": {"parents": []}})
    assert world.put(POOLS, a_pool(8001))


def test_files_wait_for_the_objects_and_are_then_together_with_them() -> None:
    world = World()
    listed = "endpoints: [{name: a, namespace: ml, address: 10.0.0.9, labels: {app: llama}}]"
    world.intake.take_files(read_manifests([("a.yaml", listed)]), {"10.0.0.9": "10.0.0.9"})
    assert not world.registry.discovered
    world.put(POOLS, a_pool())
    world.put(PODS, a_pod("p", "10.0.0.1"))
    world.take()
    addresses = [endpoint.address for endpoint in world.registry.endpoints(POOL)]
    assert addresses == ["10.0.0.9:8000", "10.0.0.1:8000"]


def test_a_version_that_cannot_be_read_leaves_the_one_before_in_force() -> None:
    world = World()
    world.put(POOLS, a_pool(8000))
    world.take()
    world.put(POOLS, a_pool(0))
    world.take()
    assert world.config().target_ports == (8000,)
    (why,) = world.intake.in_force.refusals.values()
    assert "spec.targetPorts" in why
    world.put(POOLS, a_pool(8001))
    world.take()
    assert (world.config().target_ports, world.intake.in_force.refusals) == ((8001,), {})


def test_a_bad_object_that_was_never_good_is_left_out_alone() -> None:
    world = World()
    objective = an_object("InferenceObjective", "bad", {"priority": 1})
    world.put(POOLS, a_pool())
    world.put(OBJECTIVES, objective)
    world.take()
    assert world.config().objectives == {}
    assert len(world.intake.in_force.refusals) == 1
    assert world.objects.remove(OBJECTIVES, objective)
    world.take()
    assert world.intake.in_force.refusals == {}


def test_a_version_that_does_not_fit_the_others_leaves_the_one_before_in_force() -> None:
    world = World()
    world.put(POOLS, a_pool())
    for name in "abcd":
        world.put(POLICIES, a_policy(name, 250_000))
    world.take()
    assert len(world.config().route_policies) == 4
    world.put(POLICIES, a_policy("e", 250_000), a_policy("d", 10))
    world.take()
    assert [policy.name for policy in world.config().route_policies] == ["a", "b", "c", "d", "e"]
    world.put(POLICIES, a_policy("d", 260_000))
    world.take()
    sizes = {policy.name: len(policy.spec) for policy in world.config().route_policies}
    assert sizes["d"] < 100 and len(sizes) == 5
    (why,) = world.intake.in_force.refusals.values()
    assert "RoutePolicies" in why or "bytes" in why


def test_files_that_do_not_fit_the_objects_are_refused_and_change_nothing() -> None:
    world = World()
    world.put(POOLS, a_pool())
    world.take()
    before = world.config().hash
    one = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: []\n"
    with pytest.raises(ManifestError, match="for all pools already"):
        world.intake.take_files(read_manifests([("a.yaml", one), ("b.yaml", one)]), {})
    world.take()
    assert world.config().hash == before


def test_the_hash_does_not_depend_on_the_order_in_which_objects_were_heard_of() -> None:
    hashes: set[str] = set()
    documents = [
        an_object("InferenceObjective", name, {"poolRef": {"name": "llama"}}) for name in "abc"
    ]
    for order in (documents, documents[::-1]):
        world = World()
        world.put(OBJECTIVES, *order)
        world.put(POOLS, a_pool())
        world.take()
        hashes.add(world.config().hash)
    assert len(hashes) == 1


def test_a_list_replaces_what_is_not_in_it() -> None:
    world = World()
    world.put(POOLS, a_pool())
    world.put(PODS, a_pod("a", "10.0.0.1"), a_pod("b", "10.0.0.2"))
    assert world.objects.replace(PODS, [a_pod("b", "10.0.0.2")])
    assert not world.objects.replace(PODS, [a_pod("b", "10.0.0.2")])
    world.take()
    assert [item.address for item in world.registry.endpoints(POOL)] == ["10.0.0.2:8000"]


def test_a_pod_that_two_pools_select_is_one_endpoint_of_each() -> None:
    world = World()
    other = a_pool() | {"metadata": {"name": "other", "namespace": "ml"}}
    other["spec"] = other["spec"] | {"selector": {"matchLabels": {"tier": "gpu"}}}
    pod = a_pod("a", "10.0.0.1")
    pod["metadata"]["labels"]["tier"] = "gpu"
    world.put(POOLS, a_pool(), other)
    world.put(PODS, pod)
    world.put(pod_target("ml/other", {"tier": "gpu"}), pod)
    world.take()
    assert [len(list(world.registry.endpoints(name))) for name in (POOL, "ml/other")] == [1, 1]
    assert len(world.registry.addresses()) == 1
