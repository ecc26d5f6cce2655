"""The objects of an API server as the watches tell them, and the last good version of each.

One bad object is refused by itself: its last good version stays in force, or it is left out where
there is none. Status and other noise make no change.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pointsman_datalayer.core.kubernetes_kinds import PODS, WatchTarget
from pointsman_datalayer.core.manifest_kinds import (
    InferenceModelManifest,
    InferenceModelRewriteManifest,
    ListedEndpoint,
    Manifest,
    ManifestOfAPool,
)
from pointsman_datalayer.core.manifests import Found, ManifestError, Manifests, read_object
from pointsman_datalayer.core.model_rules import ranked_rules
from pointsman_datalayer.core.pods import endpoint_of_pod
from pointsman_datalayer.core.pool_assembly import assemble_pools

MAX_OBJECTS = 20_000
"""Of one watch; more are left out, and the watch says so."""

Object = dict[str, Any]
Content = Manifest | ListedEndpoint


@dataclass(slots=True)
class WatchedObject:
    """One object, at its newest version."""

    target: WatchTarget
    namespace: str
    name: str
    resource_version: str = ""
    generation: int = 0
    status: Mapping[str, Any] = field(default_factory=dict[str, Any])
    good: Content | None = None
    """The newest version that could be read; `None`: none could, or a pod that may not be used."""
    fitted: Content | None = None
    """The newest version that also went together with everything else."""
    refusal: str = ""
    """Why the newest version cannot be read; empty: it can."""
    unknown_fields: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """For error messages, and unique."""
        resource = self.target.resource
        return f"{resource.api_version} {resource.kind} {self.namespace}/{self.name}"


class WatchedObjects:
    def __init__(self) -> None:
        self._held: dict[WatchTarget, dict[tuple[str, str], WatchedObject]] = {}
        self.overfull: set[WatchTarget] = set()

    def objects(self) -> Iterator[WatchedObject]:
        """Every object, each once, in an order that does not depend on when it was heard of."""
        seen: set[str] = set()
        for target in sorted(self._held):
            for _, item in sorted(self._held[target].items()):
                if item.place not in seen:  # two pools may select one pod
                    seen.add(item.place)
                    yield item

    def replace(self, target: WatchTarget, documents: Iterable[Object]) -> bool:
        """A list has come: what is not in it is gone. Returns whether anything has changed."""
        before = self._held.get(target, {})
        self._held[target] = {}
        self.overfull.discard(target)
        changed = False
        for document in documents:
            changed |= self._put(target, document, before)
        gone = before.keys() - self._held[target].keys()
        return changed or any(before[key].good is not None for key in gone)

    def put(self, target: WatchTarget, document: Object) -> bool:
        return self._put(target, document, self._held.setdefault(target, {}))

    def remove(self, target: WatchTarget, document: Object) -> bool:
        gone = self._held.get(target, {}).pop(_key(document), None)
        return gone is not None and (gone.good is not None or bool(gone.refusal))

    def keep_only(self, targets: Collection[WatchTarget]) -> None:
        """Forget what is no longer watched."""
        for target in self._held.keys() - set(targets):
            del self._held[target]
            self.overfull.discard(target)

    def _put(
        self,
        target: WatchTarget,
        document: Object,
        before: Mapping[tuple[str, str], WatchedObject],
    ) -> bool:
        key, held = _key(document), self._held[target]
        if key not in held and len(held) >= MAX_OBJECTS:
            new = target not in self.overfull
            self.overfull.add(target)
            return new
        meta, status = document.get("metadata") or {}, document.get("status")
        item = WatchedObject(
            target,
            *key,
            resource_version=str(meta.get("resourceVersion", "")),
            generation=int(meta.get("generation") or 0),
        )
        if target.resource != PODS and isinstance(status, dict):
            item.status = status
        known = before.get(key)
        held[key] = item
        if known is not None:
            item.good, item.fitted = known.good, known.fitted
        try:
            item.good = self._read(item, document)
        except ManifestError as error:
            item.refusal = str(error)
            if target.resource == PODS:  # nobody may be sent to where an older version was
                item.good = item.fitted = None
        if known is None:
            return item.good is not None or bool(item.refusal)
        return (known.good, known.refusal) != (item.good, item.refusal)

    @staticmethod
    def _read(item: WatchedObject, document: Object) -> Content | None:
        if item.target.resource == PODS:
            return endpoint_of_pod(item.place, document)
        resource = item.target.resource
        # The items of a list leave out what the list says of them all.
        named = {"apiVersion": resource.api_version, "kind": resource.kind}
        bare = {key: value for key, value in document.items() if key != "status"}
        manifest, item.unknown_fields = read_object(item.place, bare | named)
        _check_alone(Found(item.place, 0, manifest), manifest)
        return manifest


def _check_alone(found: Found, manifest: Manifest) -> None:
    """Refuse what could not go together with anything."""
    if isinstance(manifest, InferenceModelManifest | InferenceModelRewriteManifest):
        ranked_rules(found, manifest)
    elif not isinstance(manifest, ManifestOfAPool):
        assemble_pools(Manifests((found,)))


def _key(document: Object) -> tuple[str, str]:
    meta = document.get("metadata") or {}
    return str(meta.get("namespace", "")), str(meta.get("name", ""))
