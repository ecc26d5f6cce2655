"""The endpoints of the edge's pool, by address and by subset."""

from collections.abc import Sequence

from pointsman_common.endpoint import Endpoint, in_subset
from pointsman_common.pool_view import PoolRecord, PoolView
from pointsman_ext_proc.core.lease_guard import EngineReport


class EndpointDirectory:
    def __init__(self, view: PoolView, pool: str) -> None:
        self._view, self._pool = view, pool
        self._by_address: dict[str, str] = {}
        self._of: tuple[int, int] = (0, 0)

    @property
    def known(self) -> bool:
        """Whether the pool's endpoints were ever heard of."""
        record = self._view.get(self._pool)
        return record is not None and bool(record.publisher)

    def find(self, address: str) -> Endpoint | None:
        record = self._view.get(self._pool)
        if record is None:
            return None
        # A record replaced by another may have the same version: its identity is part of the key.
        version = (id(record), record.membership_version)
        if version != self._of:
            self._by_address = {item.address: uid for uid, item in record.endpoints.items()}
            self._of = version
        uid = self._by_address.get(address)
        return None if uid is None else record.endpoints.get(uid)

    def ready(self, subset: Sequence[str] | None) -> list[Endpoint]:
        """The ready endpoints that the subset allows; `None` allows all."""
        record: PoolRecord | None = self._view.get(self._pool)
        if record is None:
            return []
        if subset is None:
            return list(record.ready_endpoints())
        allowed = frozenset(subset)
        return [item for item in record.ready_endpoints() if in_subset(item.address, allowed)]

    def engine_reports(self) -> dict[str, EngineReport]:
        """What each engine says that it has to do, by uid; who says nothing is left out."""
        record = self._view.get(self._pool)
        reports: dict[str, EngineReport] = {}
        for uid, endpoint in record.endpoints.items() if record else ():
            metrics = endpoint.metrics
            running, waiting = metrics.running_requests, metrics.waiting_requests
            if running is not None and waiting is not None and metrics.read_at is not None:
                reports[uid] = EngineReport(running + waiting, metrics.read_at)
        return reports

    def mark_unreachable(self, address: str) -> None:
        """Leave an endpoint out until the datalayer speaks of it again."""
        endpoint = self.find(address)
        if endpoint is not None:
            self._view.mark_unreachable(self._pool, endpoint.uid, "connection failed")
