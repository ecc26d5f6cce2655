"""Which leases does an engine's own report contradict?

An end can get lost: an access log entry with the edge that it was sent to, a stream with a crashed
gateway. The engine knows how much work it has. Where it reports less than the leases that this edge
alone holds there, for longer than its report can lag, the surplus is of requests that are over. The
oldest leases go first: at worst one that lives is settled early, never twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SETTLING_S = 1.0
"""A lease younger than this when the report was read may not have reached the engine yet."""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """`work` counts running and waiting requests; `read_at` is in monotonic seconds."""

    work: int
    read_at: float


@dataclass(frozen=True, slots=True)
class HeldLease:
    lease_id: str
    endpoint: str
    opened_at: float
    """Monotonic seconds."""


@dataclass(frozen=True, slots=True)
class _Surplus:
    since: float
    least: int
    """The smallest surplus seen since then: this many were over all the time."""


class LeaseGuard:
    """Asked about once a second. Reports older than `stale_s` are not believed."""

    def __init__(self, *, patience_s: float = 5.0, stale_s: float = 2.0) -> None:
        self._patience_s, self._stale_s = patience_s, stale_s
        self._surplus: dict[str, _Surplus] = {}

    def contradicted(
        self, leases: Iterable[HeldLease], reports: Mapping[str, EngineReport], now: float
    ) -> list[str]:
        """Lease ids to settle as lost. `leases` come oldest first."""
        held: dict[str, list[str]] = {}
        for lease in leases:
            report = reports.get(lease.endpoint)
            if report is not None and lease.opened_at <= report.read_at - SETTLING_S:
                held.setdefault(lease.endpoint, []).append(lease.lease_id)
        lost: list[str] = []
        for endpoint in self._surplus.keys() - held.keys():
            del self._surplus[endpoint]
        for endpoint, ids in held.items():
            report = reports[endpoint]
            surplus = len(ids) - report.work
            if surplus <= 0 or now - report.read_at > self._stale_s:
                self._surplus.pop(endpoint, None)
                continue
            known = self._surplus.get(endpoint, _Surplus(now, surplus))
            known = _Surplus(known.since, min(known.least, surplus))
            self._surplus[endpoint] = known
            if now - known.since >= self._patience_s:
                lost.extend(ids[: known.least])
                del self._surplus[endpoint]
        return lost
