"""Discovery from an API server: keeps its watches going and hands over what they tell.

What to watch is decided by the intake (the pods of the pools there are), where each watch goes on
by its cursor, and what is in force by the intake. Changes that come together are taken together.
"""

import asyncio
from collections.abc import Iterable
from random import Random

from pointsman_common.clock import Clock
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.adapters.kubernetes_api import (
    ApiAwayError,
    ApiStatusError,
    KubernetesApi,
    WatchEvent,
)
from pointsman_datalayer.core.kubernetes_kinds import WatchTarget, config_targets
from pointsman_datalayer.core.manifest_intake import Draft, ManifestIntake
from pointsman_datalayer.core.manifests import ManifestError
from pointsman_datalayer.core.watch_cursor import WatchCursor
from pointsman_datalayer.core.watched_objects import WatchedObjects
from pointsman_datalayer.metrics import Metrics

log = get_logger("kubernetes-watch")

GATHER_S = 0.02
"""Changes within this time are taken over together: a rollout comes as many events."""

OWN_NAMESPACE, EVERY_NAMESPACE = "", "*"


def namespaces_of(setting: str, own: str) -> tuple[str, ...]:
    """The namespaces to watch: a comma list, "" for one's own, "*" for every one."""
    if setting.strip() == EVERY_NAMESPACE:
        return ("",)
    return tuple(sorted({part.strip() for part in setting.split(",") if part.strip()})) or (own,)


class KubernetesDiscovery:
    """A part of a service."""

    def __init__(
        self,
        api: KubernetesApi,
        clock: Clock,
        objects: WatchedObjects,
        intake: ManifestIntake,
        metrics: Metrics,
        *,
        namespaces: Iterable[str],
        watch_timeout_s: float,
        rng: Random,
    ) -> None:
        self._api, self._clock, self._objects, self._intake = api, clock, objects, intake
        self._metrics, self._rng = metrics, rng
        self._watch_timeout_s = watch_timeout_s
        self._configs = frozenset(config_targets(namespaces))
        self._cursors: dict[WatchTarget, WatchCursor] = {}
        self._tasks: dict[WatchTarget, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self.error = ""
        """Why the objects are not in force; empty: they are, but for those refused singly."""

    def watches(self) -> list[dict[str, str]]:
        """Each watch and its problem, for people."""
        return [
            {"watch": str(target), "problem": cursor.problem or self._overfull(target)}
            for target, cursor in sorted(self._cursors.items())
        ]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as watches:
            self._follow(watches, self._configs)
            while True:
                await self._changed.wait()
                await self._clock.sleep(GATHER_S)
                self._changed.clear()
                self._take_over(watches)

    def _take_over(self, watches: asyncio.TaskGroup) -> None:
        """Have what the watches told in force, once they have told all that belongs to it."""
        if not self._settled(self._configs):
            return
        try:
            draft = self._intake.draft()
        except ManifestError as error:
            self._refuse_all(str(error))
            return
        wanted = self._configs | draft.pod_targets()
        self._follow(watches, wanted)
        if not self._settled(wanted):
            return  # an endpoint must not be gone until the watch that finds it has spoken
        before = self._intake.in_force
        self._intake.take(draft)
        self._stop_all_but(wanted)
        self._report(before, draft)

    def _settled(self, targets: Iterable[WatchTarget]) -> bool:
        return all(target in self._cursors and self._cursors[target].settled for target in targets)

    def _follow(self, watches: asyncio.TaskGroup, targets: Iterable[WatchTarget]) -> None:
        for target in sorted(targets):
            if target not in self._tasks:
                self._cursors[target] = WatchCursor(self._rng)
                self._tasks[target] = watches.create_task(self._watch(target))

    def _stop_all_but(self, targets: frozenset[WatchTarget]) -> None:
        for target in self._tasks.keys() - targets:
            self._tasks.pop(target).cancel()
            del self._cursors[target]
        self._objects.keep_only(targets)

    async def _watch(self, target: WatchTarget) -> None:
        cursor = self._cursors[target]
        while True:
            known_problem = cursor.problem
            began_at = self._clock.monotonic()
            try:
                if cursor.resource_version is None:
                    await self._list(target, cursor)
                else:
                    await self._stream(target, cursor, cursor.resource_version)
                    cursor.ended(self._clock.monotonic() - began_at)
            except ApiStatusError as error:
                now = self._clock.monotonic()
                cursor.failed(error.status, str(error), now, error.retry_after_s)
                self._note_failure(target, cursor, known_problem)
            except ApiAwayError as error:
                cursor.failed(None, str(error), self._clock.monotonic())
                self._note_failure(target, cursor, known_problem)
            await self._clock.sleep(cursor.delay_s)

    async def _list(self, target: WatchTarget, cursor: WatchCursor) -> None:
        path = target.resource.collection(target.namespace)
        documents, version = await self._api.list(path, target.selector)
        first = not cursor.settled
        cursor.listed(version)
        self._metrics.watch_lists.labels(target.resource.kind).inc()
        if self._objects.replace(target, documents) or first:
            self._changed.set()

    async def _stream(self, target: WatchTarget, cursor: WatchCursor, version: str) -> None:
        path = target.resource.collection(target.namespace)
        # Spread, so that the watches of all replicas do not end together.
        timeout_s = self._watch_timeout_s * (0.75 + self._rng.random() / 4)
        watching = self._api.watch(path, target.selector, version, timeout_s=timeout_s)
        async with watching as events:
            async for event in events:
                cursor.event(_version_of(event))
                self._metrics.watch_events.labels(target.resource.kind, event.type).inc()
                if self._apply(target, event):
                    self._changed.set()

    def _apply(self, target: WatchTarget, event: WatchEvent) -> bool:
        if event.type == "DELETED":
            return self._objects.remove(target, event.object)
        if event.type in {"ADDED", "MODIFIED"}:
            return self._objects.put(target, event.object)
        return False  # a bookmark has told its version, which is all it has

    def _note_failure(self, target: WatchTarget, cursor: WatchCursor, known_problem: str) -> None:
        self._metrics.watch_failures.labels(target.resource.kind).inc()
        if cursor.problem != known_problem:
            log.warning("watch-failed", watch=str(target), why=cursor.problem)
        if cursor.gone:
            self._objects.replace(target, ())
        if cursor.settled:
            self._changed.set()

    def _refuse_all(self, error: str) -> None:
        if error != self.error:
            self.error = error
            log.warning("objects-refused", error=error)
            self._metrics.config_reloads.labels("refused").inc()
        self._metrics.refused("kubernetes", 1)

    def _report(self, before: Draft, now: Draft) -> None:
        self.error = ""
        for place, why in now.refusals.items():
            if before.refusals.get(place) != why:
                log.warning("object-refused", object=place, why=why)
                self._metrics.config_reloads.labels("refused").inc()
        for warning in set(now.discovery.warnings) - set(before.discovery.warnings):
            log.warning("object-left-out", why=warning)
        self._metrics.refused("kubernetes", len(now.refusals))
        if _hashes(before) != _hashes(now):
            self._metrics.config_reloads.labels("accepted").inc()
            log.info("objects-in-force", pools=sorted(now.discovery.pools))

    def _overfull(self, target: WatchTarget) -> str:
        return "holds too many objects" if target in self._objects.overfull else ""


def _hashes(draft: Draft) -> dict[str, str]:
    return {name: pool.config.hash for name, pool in draft.discovery.pools.items()}


def _version_of(event: WatchEvent) -> str:
    return str((event.object.get("metadata") or {}).get("resourceVersion", ""))
