"""What is watched on an API server, and under which paths."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pointsman_datalayer.core.manifest_kinds import KINDS

_PLURALS: Mapping[str, str] = {
    "InferencePool": "inferencepools",
    "InferenceObjective": "inferenceobjectives",
    "InferenceModelRewrite": "inferencemodelrewrites",
    "InferenceModel": "inferencemodels",
    "RoutePolicy": "routepolicies",
}


@dataclass(frozen=True, slots=True, order=True)
class ResourceKind:
    api_version: str
    kind: str
    plural: str

    def collection(self, namespace: str) -> str:
        """URL path of all objects of a namespace; "" is every namespace."""
        root = "/apis" if "/" in self.api_version else "/api"
        within = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}/{self.api_version}{within}/{self.plural}"

    def item(self, namespace: str, name: str) -> str:
        return f"{self.collection(namespace)}/{name}"


@dataclass(frozen=True, slots=True, order=True)
class WatchTarget:
    """One list and watch."""

    resource: ResourceKind
    namespace: str
    """"": every namespace."""
    selector: str = ""
    """Of labels; empty: every object."""

    def __str__(self) -> str:
        where = self.namespace or "every namespace"
        which = f" with {self.selector}" if self.selector else ""
        return f"{self.resource.api_version} {self.resource.kind} of {where}{which}"


PODS = ResourceKind("v1", "Pod", "pods")
LEASES = ResourceKind("coordination.k8s.io/v1", "Lease", "leases")
CONFIG_KINDS = tuple(ResourceKind(api, kind, _PLURALS[kind]) for api, kind in KINDS)


def config_targets(namespaces: Iterable[str]) -> tuple[WatchTarget, ...]:
    return tuple(
        WatchTarget(resource, namespace) for namespace in namespaces for resource in CONFIG_KINDS
    )


def pod_target(pool: str, selector: Mapping[str, str]) -> WatchTarget:
    """The watch of the pods of a pool."""
    labels = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    return WatchTarget(PODS, pool.partition("/")[0], labels)
