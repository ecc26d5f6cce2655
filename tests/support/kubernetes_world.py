"""A discovery of one namespace over HTTP, and what it has found."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

from pointsman_common.clock import SystemClock
from pointsman_datalayer.adapters.kubernetes_api import KubernetesApi
from pointsman_datalayer.adapters.kubernetes_watch import KubernetesDiscovery
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.manifest_intake import ManifestIntake
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.core.watched_objects import WatchedObjects
from pointsman_datalayer.metrics import Metrics
from support.kubernetes_cluster import Cluster
from support.polling import await_until


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
