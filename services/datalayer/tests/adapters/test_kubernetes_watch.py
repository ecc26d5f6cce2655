"""Pools from an API server over HTTP: an emulated one, or the one that KUBECONFIG names."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

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
from support.polling import await_until

from pointsman_common.clock import SystemClock
from pointsman_common.errors import SettingsError
from pointsman_datalayer.adapters.kubernetes_api import KubernetesApi
from pointsman_datalayer.adapters.kubernetes_watch import KubernetesDiscovery, namespaces_of
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.manifest_intake import ManifestIntake
from pointsman_datalayer.core.manifests import read_manifests
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.core.watched_objects import WatchedObjects
from pointsman_datalayer.metrics import Metrics

OLD_GROUP = "inference.networking.x-k8s.io"


class World:
    """A discovery of one namespace, and what it has found."""

    def __init__(self, there: Cluster, api: KubernetesApi, *, watch_timeout_s: float) -> None:
        self.cluster = there
        self.registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        self.objects, self.metrics = WatchedObjects(), Metrics()
        self.intake = ManifestIntake(self.registry, self.objects)
        self.discovery = KubernetesDiscovery(
            api,
            SystemClock(),
            self.objects,
            self.intake,
            self.metrics,
            namespaces=[there.namespace],
            watch_timeout_s=watch_timeout_s,
            rng=Random(1),
        )

    @property
    def pool(self) -> str:
        return f"{self.cluster.namespace}/llama"

    def addresses(self) -> list[str]:
        return sorted(endpoint.address for endpoint in self.registry.endpoints(self.pool))

    def objectives(self) -> dict[str, int]:
        return dict(self.registry.pools()[self.pool].config.objectives)

    def weights(self) -> list[int]:
        rules = self.registry.pools()[self.pool].config.model_rules
        return [target.weight for rule in rules for target in rule.targets]

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"pointsman_datalayer_{name}", labels) or 0.0


async def until(what: str, check: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    async def checked() -> bool:
        return check()

    await await_until(what, checked, timeout_s=timeout_s)


@asynccontextmanager
async def running(there: Cluster, *, watch_timeout_s: float = 30.0) -> AsyncIterator[World]:
    api = await KubernetesApi.connect(str(there.kubeconfig))
    world = World(there, api, watch_timeout_s=watch_timeout_s)
    tasks = [asyncio.ensure_future(part.run()) for part in (world.discovery, api)]
    try:
        yield world
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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


async def test_streams_that_are_cut_off_go_on_where_they_were(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        lists = list(server.lists)
        server.cut_streams()
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])
        assert server.lists == lists, "nothing was listed again"


async def test_410_gone_lists_again_and_loses_nothing(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    gone = a_kubernetes_pod("a", "10.0.0.1")
    await there.apply(gone)
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        server.faults.silent = True  # what follows is never told by a stream
        await there.delete(gone)
        await there.apply(a_kubernetes_pod("b", "10.0.0.2"))
        server.faults.silent = False
        server.expire_streams()
        await until("the list", lambda: world.addresses() == ["10.0.0.2:8000"])
        assert world.count("kubernetes_lists_total", kind="Pod") == 2


async def test_a_history_compacted_while_it_was_away_lists_again(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        await server.stop()
        server.compact()
        await server.start()
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])


async def test_a_bookmark_moves_the_version_on_so_that_no_list_is_needed(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        await until("a watch of pods", lambda: any(kind == "pods" for kind, _ in server.watches))
        lists = list(server.lists)
        server.bookmark()
        told = str(server.version)
        labels = {"kind": "Pod", "type": "BOOKMARK"}
        await until("a bookmark", lambda: world.count("kubernetes_events_total", **labels) == 1)
        server.compact_to(server.version)  # what was before the bookmark is forgotten
        server.cut_streams()
        await until("watched from it", lambda: ("pods", told) in server.watches)
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])
        assert server.lists == lists


async def test_a_server_that_restarts_changes_nothing_meanwhile(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
    async with running(there) as world:
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])
        await server.stop()
        failing = {"kind": "Pod"}
        await until("it notices", lambda: world.count("kubernetes_failures_total", **failing) > 1)
        assert world.addresses() == ["10.0.0.1:8000"]
        assert any(watch["problem"] for watch in world.discovery.watches())
        await server.start()
        await there.apply(a_kubernetes_pod("b", "10.0.0.2"))
        await until("it goes on", lambda: len(world.addresses()) == 2, timeout_s=5.0)


async def test_a_server_that_is_away_at_the_start_is_waited_for(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    await server.stop()
    async with running(there) as world:
        await until(
            "it tries", lambda: world.count("kubernetes_failures_total", kind="InferenceModel") > 1
        )
        assert not world.registry.discovered
        await server.start()
        await until("the pool", lambda: world.registry.discovered)


async def test_events_in_crumbs_are_put_together(there: Cluster) -> None:
    server = there.server
    server.faults.crumb_bytes = 7
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])


async def test_a_stream_that_says_nothing_is_begun_anew_in_time(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    server.faults.silent = True
    async with running(there, watch_timeout_s=1.0) as world:
        await until("the pool", lambda: world.registry.discovered)
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await asyncio.sleep(0.2)
        server.faults.silent = False  # the open streams have swallowed it
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])


async def test_a_stream_of_nonsense_does_no_harm_and_is_tried_again(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        server.faults.bad_lines = True
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await until("it notices", lambda: world.count("kubernetes_failures_total", kind="Pod") > 0)
        server.faults.bad_lines = False
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])


async def test_long_lists_come_in_pages(there: Cluster) -> None:
    server = there.server
    server.faults.page = 2
    await there.apply(a_kubernetes_pool())
    for number in range(1, 6):
        await there.apply(a_kubernetes_pod(f"p{number}", f"10.0.0.{number}"))
    async with running(there) as world:
        await until("five pods", lambda: len(world.addresses()) == 5)


@pytest.mark.parametrize("status", [403, 404])
async def test_a_kind_that_cannot_be_had_holds_up_nothing(there: Cluster, status: int) -> None:
    server = there.server
    server.faults.status["inferencemodels"] = status
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        (problem,) = [watch["problem"] for watch in world.discovery.watches() if watch["problem"]]
        assert f"HTTP {status}" in problem


async def test_rights_that_are_taken_away_leave_what_was_known(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
    async with running(there) as world:
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])
        server.faults.status["pods"] = 403
        server.cut_streams()
        await until("it notices", lambda: world.count("kubernetes_failures_total", kind="Pod") > 0)
        await there.apply(a_kubernetes_objective("high", 10))
        await until("the rest goes on", lambda: world.objectives() == {"high": 10})
        assert world.addresses() == ["10.0.0.1:8000"]


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
