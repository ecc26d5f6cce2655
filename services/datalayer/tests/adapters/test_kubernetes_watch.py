"""Pools from an API server over HTTP: an emulated one, or the one that KUBECONFIG names."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.kubernetes_cluster import (
    Cluster,
    a_kubernetes_object,
    a_kubernetes_objective,
    a_kubernetes_pod,
    a_kubernetes_pool,
    a_kubernetes_rewrite,
    cluster,
)
from support.kubernetes_world import running, until

from pointsman_common.errors import SettingsError
from pointsman_datalayer.adapters.kubernetes_api import KubernetesApi
from pointsman_datalayer.adapters.kubernetes_watch import namespaces_of
from pointsman_datalayer.core.manifests import read_manifests

OLD_GROUP = "inference.networking.x-k8s.io"


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as opened:
        yield opened


async def test_a_pool_has_the_pods_that_it_selects_and_that_are_ready(there: Cluster) -> None:
    await there.apply(a_kubernetes_pool())
    await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
    await there.apply(a_kubernetes_pod("b", "10.0.0.2", ready=False))
    await there.apply(a_kubernetes_pod("c", "10.0.0.3", app="other"))
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        assert world.addresses() == ["10.0.0.1:8000"]
        (endpoint,) = world.registry.endpoints(world.pool)
        assert endpoint.name == f"{there.namespace}/a-rank-0"
        await there.apply(a_kubernetes_pod("b", "10.0.0.2"))
        await until("the pod got ready", lambda: len(world.addresses()) == 2)


async def test_pods_come_and_go(there: Cluster) -> None:
    await there.apply(a_kubernetes_pool())
    first = a_kubernetes_pod("a", "10.0.0.1")
    await there.apply(first)
    async with running(there) as world:
        await until("the first pod", lambda: world.addresses() == ["10.0.0.1:8000"])
        await there.apply(a_kubernetes_pod("b", "10.0.0.2"))
        await until("the second pod", lambda: len(world.addresses()) == 2)
        await there.apply(a_kubernetes_pod("a", "10.0.0.1", ready=False))
        await until("the unready pod is gone", lambda: world.addresses() == ["10.0.0.2:8000"])
        await there.delete(first)
        await there.delete(a_kubernetes_pod("b", "10.0.0.2"))
        await until("both are gone", lambda: world.addresses() == [])


async def test_several_target_ports_are_ranks_and_an_annotation_restricts_them(
    there: Cluster,
) -> None:
    await there.apply(a_kubernetes_pool("llama", 8000, 8001))
    await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
    only = {"llm-d.ai/active-ports": "8001"}
    await there.apply(a_kubernetes_pod("b", "10.0.0.2", annotations=only))
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        assert world.addresses() == ["10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.2:8001"]
        uids = [endpoint.uid for endpoint in world.registry.endpoints(world.pool)]
        assert len(set(uids)) == 3


async def test_objectives_and_rewrites_follow_their_objects(there: Cluster) -> None:
    def rewrite(weight: int) -> dict[str, object]:
        targets = [
            {"modelRewrite": "a", "weight": weight},
            {"modelRewrite": "b", "weight": 100 - weight},
        ]
        return a_kubernetes_rewrite("canary", {"targets": targets})

    await there.apply(a_kubernetes_pool())
    await there.apply(a_kubernetes_objective("high", 10))
    await there.apply(rewrite(90))
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        before = world.registry.pools()[world.pool].config.hash
        assert (world.objectives(), world.weights()) == ({"high": 10}, [90, 10])
        await there.apply(rewrite(50))
        await until("the new weights", lambda: world.weights() == [50, 50])
        await there.delete(a_kubernetes_objective("high", 10))
        await until("no objective", lambda: world.objectives() == {})
        assert world.registry.pools()[world.pool].config.hash != before


async def test_objects_of_the_older_group_count_until_there_are_newer_ones(there: Cluster) -> None:
    await there.apply(a_kubernetes_pool())
    await there.apply(a_kubernetes_objective("old", 1, group=OLD_GROUP))
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        assert world.objectives() == {"old": 1}
        await there.apply(a_kubernetes_objective("new", 2))
        await until("the newer group", lambda: world.objectives() == {"new": 2})


async def test_a_route_policy_is_carried_as_it_was_written(there: Cluster) -> None:
    spec = {"poolRef": {"name": "llama"}, "rules": [{"any": {"thing": [1, 2]}}], "more": True}
    await there.apply(a_kubernetes_pool())
    await there.apply(a_kubernetes_object("pointsman.dev/v1alpha1", "RoutePolicy", "house", spec))
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        (policy,) = world.registry.pools()[world.pool].config.route_policies
        assert policy.name == "house"
        assert '"rules":[{"any":{"thing":[1,2]}}]' in policy.spec


async def test_a_deleted_pool_is_gone_and_its_pods_are_watched_no_more(there: Cluster) -> None:
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        assert any("Pod" in watch["watch"] for watch in world.discovery.watches())
        await there.delete(a_kubernetes_pool())
        await until("gone", lambda: world.registry.pools()[world.pool].gone)
        assert not any("Pod" in watch["watch"] for watch in world.discovery.watches())


async def test_a_change_of_selector_never_empties_the_pool(there: Cluster) -> None:
    await there.apply(a_kubernetes_pool())
    await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
    await there.apply(a_kubernetes_pod("b", "10.0.0.2", app="next"))
    async with running(there) as world:
        await until("the first pod", lambda: world.addresses() == ["10.0.0.1:8000"])
        seen: list[list[str]] = []
        world.registry.on_membership_change(lambda: seen.append(world.addresses()))
        await there.apply(a_kubernetes_pool(app="next"))
        await until("the next pod", lambda: world.addresses() == ["10.0.0.2:8000"])
        assert [] not in seen


async def test_a_bad_object_is_refused_alone_and_its_last_good_version_stays(
    there: Cluster,
) -> None:
    assert there.server is not None, "a real server with the CRD refuses it by itself"
    mixed = [{"modelRewrite": "a", "weight": 1}, {"modelRewrite": "b"}]
    await there.apply(a_kubernetes_pool())
    await there.apply(a_kubernetes_rewrite("r", {"targets": [{"modelRewrite": "a", "weight": 7}]}))
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        await there.apply(a_kubernetes_rewrite("r", {"targets": mixed}))
        await there.apply(a_kubernetes_objective("high", 10))
        await until("the good object", lambda: world.objectives() == {"high": 10})
        assert world.weights() == [7]
        (why,) = world.intake.in_force.refusals.values()
        assert "either all targets have a weight or none" in why
        assert world.count("config_refused") == 1
        await there.apply(a_kubernetes_rewrite("r", {"targets": [{"modelRewrite": "b"}]}))
        await until("mended", lambda: world.weights() == [0])
        assert world.count("config_refused") == 0


async def test_a_field_of_a_newer_crd_is_left_out_and_named(there: Cluster) -> None:
    assert there.server is not None, "a real server drops what its CRD does not know"
    pool = a_kubernetes_pool()
    pool["spec"]["targetPorts"][0]["weight"] = 3
    pool["spec"]["novelty"] = {"a": 1}
    await there.apply(pool)
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        assert world.registry.pools()[world.pool].config.target_ports == (8000,)
        (warning,) = world.intake.in_force.discovery.warnings
        assert "spec.novelty" in warning and "spec.targetPorts[0].weight" in warning


async def test_a_picker_configuration_comes_from_a_mounted_file(there: Cluster) -> None:
    await there.apply(a_kubernetes_pool())
    document = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: []\n"
    async with running(there) as world:
        world.intake.take_files(read_manifests([("config.yaml", document)]), {})
        assert not world.registry.discovered, "the cluster has not spoken yet"
        await until("the pool", lambda: world.registry.discovered)
        config = world.registry.pools()[world.pool].config
        assert "EndpointPickerConfig" in config.endpoint_picker_config


async def test_a_kubeconfig_that_is_not_there_refuses_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="kubeconfig"):
        await KubernetesApi.connect(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("setting", "namespaces"),
    [("", ("mine",)), ("*", ("",)), ("b, a,b", ("a", "b")), (" , ", ("mine",))],
)
def test_namespaces_are_the_own_one_every_one_or_a_list(
    setting: str, namespaces: tuple[str, ...]
) -> None:
    assert namespaces_of(setting, "mine") == namespaces
