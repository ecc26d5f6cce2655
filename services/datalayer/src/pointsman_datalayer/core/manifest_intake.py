"""Puts together what files and an API server say, and what of it is in force.

Files are taken over whole or not at all; of an API server's objects each by itself, since nobody
else can mend them and one must not hold up the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.kubernetes_kinds import WatchTarget, pod_target
from pointsman_datalayer.core.manifests import Found, ManifestError, Manifests
from pointsman_datalayer.core.pool_assembly import Discovery, assemble_pools
from pointsman_datalayer.core.watched_objects import Content, WatchedObject, WatchedObjects

MAX_MISFITS = 100
"""Objects that are left out one after the other before all is refused."""

Addresses = Mapping[str, str | None]
"""IP of each host of the endpoint lists."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What would be in force."""

    discovery: Discovery
    used: Mapping[str, Content] = field(default_factory=dict[str, Content])
    """The version of each object that went in, by its place."""
    refusals: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why the newest version of an object did not, by its place."""
    generations: Mapping[str, int] = field(default_factory=dict[str, int])
    """Which generation of each object was looked at, by its place."""

    def pod_targets(self) -> frozenset[WatchTarget]:
        """The pods that its pools select."""
        return frozenset(
            pod_target(name, pool.config.selector) for name, pool in self.discovery.pools.items()
        )


class ManifestIntake:
    """Without `objects`, files are all there is."""

    def __init__(self, registry: EndpointRegistry, objects: WatchedObjects | None = None) -> None:
        self._registry, self._objects = registry, objects
        self._objects_known = objects is None
        self._files, self._addresses = Manifests(), dict[str, str | None]()
        self.in_force = Draft(Discovery())

    def take_files(self, manifests: Manifests, addresses: Addresses) -> Discovery:
        """Have files in force, with what the API server says once that is known.

        Raises:
            ManifestError: they do not fit together; nothing has changed.
        """
        draft = self._draft(manifests, addresses)
        self._files, self._addresses = manifests, dict(addresses)
        if self._objects_known:
            self._put_in_force(draft)
        return draft.discovery

    def draft(self) -> Draft:
        """What would be in force with the objects as they are now.

        Raises:
            ManifestError: the files do not go together with them.
        """
        return self._draft(self._files, self._addresses)

    def take(self, draft: Draft) -> None:
        """Have a draft in force; what the API server says is known from now on."""
        self._objects_known = True
        for item in self._objects.objects() if self._objects else ():
            item.fitted = draft.used.get(item.place)
        self._put_in_force(draft)

    def _put_in_force(self, draft: Draft) -> None:
        self.in_force = draft
        self._registry.discover(draft.discovery.pools)

    def _draft(self, files: Manifests, addresses: Addresses) -> Draft:
        objects = {item.place: item for item in self._objects.objects()} if self._objects else {}
        used = {place: item.good for place, item in objects.items() if item.good is not None}
        refusals = {place: item.refusal for place, item in objects.items() if item.refusal}
        warnings = files.warnings + tuple(_warnings(objects))
        for _ in range(MAX_MISFITS):
            found = (*files.found, *_found(used, len(files.found)))
            manifests = Manifests(found, warnings)
            try:
                # A pod has an IP: only the hosts of the files are looked up.
                discovery = assemble_pools(manifests, lambda host: addresses.get(host, host))
            except ManifestError as error:
                if error.place not in used:
                    raise
                place = _culprit(error.place, objects, used)
                refusals[place] = str(error)
                fitted = objects[place].fitted
                if fitted is not None and fitted != used[place]:
                    used[place] = fitted
                else:
                    del used[place]
            else:
                generations = {place: item.generation for place, item in objects.items()}
                return Draft(discovery, used, refusals, generations)
        raise ManifestError("objects", "", f"more than {MAX_MISFITS} do not fit together")


def _culprit(place: str, objects: Mapping[str, WatchedObject], used: Mapping[str, Content]) -> str:
    """The object to refuse: the one that is named, unless it was in force and another changed."""
    kind = objects[place].target.resource
    changed = [
        other
        for other, content in used.items()
        if objects[other].target.resource == kind and content != objects[other].fitted
    ]
    return place if place in changed or not changed else changed[-1]


def _found(used: Mapping[str, Content], first: int) -> list[Found]:
    return [Found(place, first + index, what) for index, (place, what) in enumerate(used.items())]


def _warnings(objects: Mapping[str, WatchedObject]) -> list[str]:
    return [
        f"{place}: fields that are not known here are left out: {', '.join(item.unknown_fields)}"
        for place, item in objects.items()
        if item.unknown_fields
    ]
