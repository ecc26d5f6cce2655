"""Writes the status of the objects, from one replica at a time.

Which replica does is settled by a Lease of the API server; routing does not depend on it. A status
that says the same already is left alone, and a patch holds for the version that it was made for:
after a conflict the watch brings the new one, and the next round makes a new patch.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from random import Random
from typing import Any

from pointsman_common.clock import Clock
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.adapters.kubernetes_api import (
    ApiAwayError,
    ApiStatusError,
    KubernetesApi,
)
from pointsman_datalayer.core.kubernetes_kinds import LEASES
from pointsman_datalayer.core.lease_election import LeaseElection, LeaseRecord, Move
from pointsman_datalayer.core.manifest_intake import ManifestIntake
from pointsman_datalayer.core.status_conditions import StatusPatch, status_patches
from pointsman_datalayer.core.watched_objects import WatchedObjects
from pointsman_datalayer.metrics import Metrics

log = get_logger("kubernetes-status")

LEASE = "pointsman-datalayer-status"
ROUND_S = 1.0
PATCHES_A_ROUND = 50
RETRY_FAILED_S = 30.0
"""A status that cannot be written (no rights, no status in the CRD) is left alone for so long."""
MAX_FAILED = 10_000


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    duration_s: float = 15.0
    """A holder that is silent for so long has lost the lease."""
    renew_s: float = 4.0


class KubernetesStatusWriter:
    """A part of a service."""

    def __init__(
        self,
        api: KubernetesApi,
        clock: Clock,
        objects: WatchedObjects,
        intake: ManifestIntake,
        metrics: Metrics,
        *,
        identity: str,
        rng: Random,
        times: LeaseTimes | None = None,
    ) -> None:
        self._api, self._clock, self._objects, self._intake = api, clock, objects, intake
        self._metrics, self._identity, self._rng = metrics, identity, rng
        self._times = times or LeaseTimes()
        self._election = LeaseElection(identity, self._times.duration_s)
        self._failed: dict[str, float] = {}
        self._problem = ""

    async def run(self) -> None:
        looked_at = float("-inf")
        while True:
            now = self._clock.monotonic()
            try:
                if now - looked_at >= self._times.renew_s:
                    looked_at = now
                    await self._elect(now)
                if self._election.leads(self._clock.monotonic()):
                    await self._write()
            except (ApiAwayError, ApiStatusError) as error:
                self._note(str(error))
            else:
                self._note("")
            self._metrics.leads.set(self._election.leads(self._clock.monotonic()))
            await self._clock.sleep(ROUND_S * (0.9 + self._rng.random() / 5))

    async def drain(self, grace_s: float) -> None:
        """Let another replica take over at once."""
        del grace_s
        if not self._election.leads(self._clock.monotonic()):
            return
        path = LEASES.item(self._api.own_namespace, LEASE)
        lease = await self._api.get(path)
        if lease is not None and _record(lease).holder == self._identity:
            version = lease["metadata"]["resourceVersion"]
            spec = {"holderIdentity": "", "renewTime": self._timestamp()}
            await self._api.patch(path, {"metadata": {"resourceVersion": version}, "spec": spec})

    async def _elect(self, now: float) -> None:
        path = LEASES.item(self._api.own_namespace, LEASE)
        lease = await self._api.get(path)
        record = _record(lease) if lease is not None else LeaseRecord()
        move = self._election.next_move(record, now)
        if move is Move.WAIT:
            return
        spec: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._times.duration_s),
            "renewTime": self._timestamp(),
        }
        if move is Move.TAKE:
            spec |= {"acquireTime": spec["renewTime"], "leaseTransitions": record.transitions + 1}
        try:
            if lease is None:
                await self._api.create(
                    LEASES.collection(self._api.own_namespace),
                    {
                        "apiVersion": LEASES.api_version,
                        "kind": LEASES.kind,
                        "metadata": {"name": LEASE, "namespace": self._api.own_namespace},
                        "spec": spec,
                    },
                )
            else:
                body = {"metadata": {"resourceVersion": record.resource_version}, "spec": spec}
                await self._api.patch(path, body)
        except ApiStatusError as error:
            if error.status != HTTPStatus.CONFLICT:  # else another was faster
                raise
        else:
            self._election.renewed(now)

    async def _write(self) -> None:
        now = self._clock.monotonic()
        self._failed = {key: at for key, at in self._failed.items() if now - at < RETRY_FAILED_S}
        transition_at = self._clock_time().strftime("%Y-%m-%dT%H:%M:%SZ")
        written = 0
        for patch in status_patches(self._objects, self._intake.in_force, transition_at):
            path = patch.target.resource.item(patch.namespace, patch.name) + "/status"
            if path in self._failed:
                continue
            if written == PATCHES_A_ROUND or not self._election.leads(self._clock.monotonic()):
                return
            written += 1
            await self._patch(path, patch)

    async def _patch(self, path: str, patch: StatusPatch) -> None:
        try:
            await self._api.patch(path, patch.body)
        except ApiStatusError as error:
            if error.status == HTTPStatus.CONFLICT:
                self._metrics.status_writes.labels("conflict").inc()
                return
            self._metrics.status_writes.labels("failed").inc()
            if len(self._failed) < MAX_FAILED:
                self._failed[path] = self._clock.monotonic()
            log.warning("status-not-written", object=path, why=str(error))
        else:
            self._metrics.status_writes.labels("written").inc()

    def _note(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.warning("status-writer-waits", why=problem)
        self._problem = problem

    def _clock_time(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)

    def _timestamp(self) -> str:
        return self._clock_time().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _record(lease: dict[str, Any]) -> LeaseRecord:
    spec, meta = lease.get("spec") or {}, lease.get("metadata") or {}
    return LeaseRecord(
        holder=str(spec.get("holderIdentity") or ""),
        renewed_at=str(spec.get("renewTime") or ""),
        transitions=int(spec.get("leaseTransitions") or 0),
        resource_version=str(meta.get("resourceVersion", "")),
    )
