"""What the status of each object should say, and the patch that makes it so.

Conditions as the Gateway API has them: `Accepted` (the object is well formed and in force) and
`ResolvedRefs` (the pool it names is there). Objects of a pool keep them in `status.conditions`; an
InferencePool keeps them by parent in `status.parents`, where the gateways write theirs and we ours.
Entries of others are kept, and an entry that says the same already is left alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pointsman_datalayer.core.kubernetes_kinds import PODS, WatchTarget
from pointsman_datalayer.core.manifest_intake import Draft
from pointsman_datalayer.core.manifest_kinds import (
    POOL_GROUP,
    InferenceModelManifest,
    InferencePoolManifest,
    Manifest,
    ManifestOfAPool,
    group_of,
    pool_named_by,
)
from pointsman_datalayer.core.pool_assembly import is_superseded, newer_kinds
from pointsman_datalayer.core.watched_objects import WatchedObject, WatchedObjects

CONTROLLER = "pointsman.dev/datalayer"
MAX_MESSAGE = 1024
"""Characters of a condition's message that are kept; the API allows 32768."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: bool
    reason: str
    message: str

    def says(self, generation: int) -> Json:
        return {
            "type": self.type,
            "status": "True" if self.status else "False",
            "reason": self.reason,
            "message": self.message[:MAX_MESSAGE],
            "observedGeneration": generation,
        }


@dataclass(frozen=True, slots=True)
class StatusPatch:
    """A merge patch of one object's status, good only for the version it was made for."""

    target: WatchTarget
    namespace: str
    name: str
    body: Json


def status_patches(objects: WatchedObjects, draft: Draft, now: str) -> Iterator[StatusPatch]:
    """The patches that are due; `now` is the time of a transition as RFC 3339."""
    used = [what for what in draft.used.values() if isinstance(what, Manifest)]
    newer = newer_kinds(used)
    for item in objects.objects():
        resource = item.target.resource
        looked_at = draft.generations.get(item.place) == item.generation
        if resource == PODS or not item.resource_version or not looked_at:
            continue
        wanted = conditions_of(item, draft, newer)
        if resource.kind != "InferencePool":
            status = _with_conditions(item.status, wanted, item.generation, now)
        elif group_of(resource.api_version) == POOL_GROUP:
            status = _with_parent(item, wanted, now)
        else:
            status = None  # the older pool knows no entry but the gateways'
        if status is not None:
            version = {"resourceVersion": item.resource_version}
            body = {"metadata": version, "status": status}
            yield StatusPatch(item.target, item.namespace, item.name, body)


def conditions_of(
    item: WatchedObject, draft: Draft, newer: frozenset[str]
) -> tuple[Condition, ...]:
    """What there is to say of one object."""
    what = draft.used.get(item.place)
    refusal = draft.refusals.get(item.place, "")
    conditions = [_accepted(what if isinstance(what, Manifest) else None, refusal, draft, newer)]
    if isinstance(what, ManifestOfAPool):
        pool = pool_named_by(what)
        there = pool in draft.discovery.pools
        reason, state = ("ResolvedRefs", "is") if there else ("PoolNotFound", "is not")
        conditions.append(
            Condition("ResolvedRefs", there, reason, f"InferencePool {pool} {state} there")
        )
    return tuple(conditions)


def _accepted(
    what: Manifest | None, refusal: str, draft: Draft, newer: frozenset[str]
) -> Condition:
    if refusal:
        kept = "; the last good version is in force" if what is not None else ""
        return Condition("Accepted", False, "Invalid", refusal + kept)
    if what is not None and is_superseded(what, newer):
        why = f"there are {what.kind} objects of the newer API group, which alone count"
        return Condition("Accepted", False, "Superseded", why)
    if isinstance(what, InferenceModelManifest):
        pool = draft.discovery.pools.get(pool_named_by(what))
        source = f"InferenceModel/{what.metadata.name}"
        if pool and not any(rule.source == source for rule in pool.config.model_rules):
            why = f"an older InferenceModel of the pool has the name {what.spec.model_name!r}"
            return Condition("Accepted", False, "ModelNameInUse", why)
    return Condition("Accepted", True, "Accepted", "in force")


def _with_conditions(
    status: Mapping[str, Any], wanted: Sequence[Condition], generation: int, now: str
) -> Json | None:
    known = _entries(status.get("conditions"))
    merged = _merged(known, wanted, generation, now)
    return None if merged == known else {"conditions": merged}


def _with_parent(item: WatchedObject, wanted: Sequence[Condition], now: str) -> Json | None:
    parents = _entries(item.status.get("parents"))
    ours = next((entry for entry in parents if entry.get("controllerName") == CONTROLLER), None)
    known = _entries(ours.get("conditions")) if ours else []
    merged = _merged(known, wanted, item.generation, now)
    if ours and merged == known:
        return None
    good = item.good if isinstance(item.good, InferencePoolManifest) else None
    picker = good.spec.endpoint_picker_ref if good else None
    ref = {"group": "", "kind": "Service", "name": picker.name if picker else "pointsman"}
    entry = {"parentRef": ref, **(ours or {}), "controllerName": CONTROLLER, "conditions": merged}
    others = [other for other in parents if other is not ours]
    return {"parents": [*others, entry]}


def _merged(
    known: Sequence[Json], wanted: Sequence[Condition], generation: int, now: str
) -> list[Json]:
    """Known conditions, with ours in the place of those of their types."""
    before = {str(entry.get("type")): entry for entry in known}
    merged = dict(before)
    for condition in wanted:
        old, new = before.get(condition.type, {}), condition.says(generation)
        same_status = old.get("status") == new["status"]
        since = old.get("lastTransitionTime") if same_status else None
        merged[condition.type] = new | {"lastTransitionTime": since or now}
    return list(merged.values())


def _entries(value: Any) -> list[Json]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
