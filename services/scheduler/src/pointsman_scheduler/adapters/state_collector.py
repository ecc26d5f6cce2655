"""Reads the scheduler's state at each scrape, so that picks need not count it."""

from collections import defaultdict
from collections.abc import Iterable

from prometheus_client.core import Metric

from pointsman_common.clock import Clock
from pointsman_common.in_flight import LeaseTable
from pointsman_common.pool_view import PoolView
from pointsman_scheduler.core.picking import Picking
from pointsman_scheduler.metrics import PREFIX_PLUGIN, state_counters, state_gauges

MAX_FAIRNESS_IDS = 1000
"""Told apart in labels; the others are `other`."""

PRODUCER = "inflight-load-producer"


class StateCollector:
    def __init__(self, clock: Clock, view: PoolView, leases: LeaseTable, picking: Picking) -> None:
        self._clock, self._view, self._leases, self._picking = clock, view, leases, picking
        self._fairness_ids: set[str] = set()

    def collect(self) -> Iterable[Metric]:
        gauges, now = state_gauges(), self._clock.monotonic()
        for (full, fairness_id, priority), (requests, tokens) in self._in_flight().items():
            namespace, _, short = full.rpartition("/")
            labels = (short, namespace, PRODUCER, fairness_id, str(priority))
            gauges["requests"].add_metric(labels, requests)
            gauges["tokens"].add_metric(labels, tokens)
        entries = sum(len(pool.index) for pool in self._picking.pools.values())
        gauges["index"].add_metric(PREFIX_PLUGIN, entries)
        for known in tuple(self._view.pools()):
            gauges["age"].add_metric((known,), self._view.age_s(known, now))
            for name, difference in self._differences(known):
                gauges["difference"].add_metric((known, name), difference)
        counters = state_counters()
        counters["guessed"].add_metric((), self._picking.silent_edges.guessed)
        for name, pool in self._picking.pools.items():
            excess = pool.table.excess
            counters["decays"].add_metric((name,), excess.begun)
            gauges["disbelieved"].add_metric((name,), excess.disbelieved())
            for endpoint, speed in pool.table.speeds():
                gauges["speed"].add_metric((name, endpoint.name), speed)
        return (*gauges.values(), *counters.values())

    def _differences(self, pool: str) -> Iterable[tuple[str, int]]:
        record = self._view.get(pool)
        for endpoint in record.endpoints.values() if record else ():
            running = endpoint.metrics.running_requests
            waiting = endpoint.metrics.waiting_requests
            if running is not None and waiting is not None:
                leased = self._leases.load(endpoint.uid).requests
                yield endpoint.name, leased - running - waiting

    def _in_flight(self) -> dict[tuple[str, str, int], tuple[int, int]]:
        names = {
            uid: endpoint.name
            for pool in self._view.pools()
            if (record := self._view.get(pool)) is not None
            for uid, endpoint in record.endpoints.items()
        }
        sums: dict[tuple[str, str, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
        for lease in self._leases.leases():
            name = names.get(lease.endpoint, lease.endpoint)
            key = (name, self._bounded(lease.fairness_id), lease.priority)
            requests, tokens = sums[key]
            sums[key] = requests + 1, tokens + (0 if lease.serving else lease.prefill_tokens)
        return sums

    def _bounded(self, fairness_id: str) -> str:
        if fairness_id not in self._fairness_ids:
            if len(self._fairness_ids) >= MAX_FAIRNESS_IDS:
                return "other"
            self._fairness_ids.add(fairness_id)
        return fairness_id
