"""Decides beside production, answers nobody, and reports how the two compare.

Each pick that an edge tells of is decided on once more, by the shadow's configuration on its own
state, before the pick is taken into that state: the state follows production's placements alone.
"""

from random import Random

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contracts.events_pb2 import RequestFinished, RequestPicked, RequestServing
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.in_flight import LeaseTable
from pointsman_common.lease_subscriber import LeaseSubscriber
from pointsman_common.pool_view import PoolView
from pointsman_common.structured_log import get_logger
from pointsman_scheduler.adapters.shadow_metrics import ShadowMetrics
from pointsman_scheduler.core.picking import Picking
from pointsman_scheduler.core.plugin_protocols import LatencyPredictor
from pointsman_scheduler.core.pool_scheduling import PoolScheduling
from pointsman_scheduler.core.shadow_comparison import ShadowComparison, Skipped
from pointsman_scheduler.settings import SchedulerSettings

log = get_logger("shadow")

MOST_POOLS = 1000


class ShadowRunner:
    """A part of the service. `yardstick` predicts where the configuration itself does not."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        stamp: EnvelopeStamp,
        *,
        view: PoolView,
        leases: LeaseTable,
        picking: Picking,
        yardstick: LatencyPredictor,
        metrics: ShadowMetrics,
        settings: SchedulerSettings,
        rng: Random,
    ) -> None:
        self._bus, self._clock, self._stamp = bus, clock, stamp
        self._view, self.leases, self._picking = view, leases, picking
        self._yardstick, self._metrics = yardstick, metrics
        self._settings, self._rng = settings, rng
        self._failed = False
        self._comparisons: dict[str, ShadowComparison] = {}
        self.events = LeaseSubscriber(
            bus,
            clock,
            leases,
            stamp,
            asks=False,
            before_picked=self.decide,
            on_picked=self.learn,
            on_serving=self._served,
            on_finished=self._finished,
        )
        """A part as well: what the edges tell."""

    async def run(self) -> None:
        began = self._clock.monotonic()
        while True:
            now = self._clock.monotonic()
            self.report(window_s=now - began)
            began = now
            await self._clock.sleep(self._settings.shadow_report_s)

    def decide(self, event: RequestPicked) -> None:
        """Decide on a pick of production and compare. A failure of the policy harms only itself."""
        lease = event.lease
        comparison = self._comparison(lease.pool)
        if comparison is None or lease.lease_id in self.leases:
            return  # the lease moves to another endpoint: it was decided on already
        if event.unscheduled:
            comparison.skip(Skipped.UNSCHEDULED)
        elif not event.HasField("descriptor"):
            comparison.skip(Skipped.NO_DESCRIPTOR)
        elif self._rng.random() >= self._settings.shadow_fraction:
            comparison.skip(Skipped.NOT_SAMPLED)
        else:
            try:
                self._decide(event, comparison)
            except Exception:
                # Policies on trial run here; the state must be kept whatever they do.
                if not self._failed:
                    log.exception("shadow-policy-failed", pool=lease.pool)
                self._failed = True
                comparison.skip(Skipped.FAILED)

    def learn(self, event: RequestPicked) -> None:
        """Production's placement becomes part of the state."""
        if event.HasField("descriptor"):
            # Whole: what was published before this shadow started is in it, too.
            event.prompt_block_hashes = event.descriptor.prompt_block_hashes
            event.first_block = 0
        self._picking.learn_pick(event)

    def decisions(self, pool: str) -> int:
        """Since the last report."""
        comparison = self._comparisons.get(pool)
        return 0 if comparison is None else comparison.window.decisions

    def report(self, *, window_s: float) -> None:
        """Publish what the last window said, of each pool."""
        name = self._settings.shadow_name
        for pool in tuple(self._view.pools()):
            state, comparison = self._picking.pool(pool), self._comparison(pool)
            if state is None or comparison is None:
                continue
            report = comparison.take_report(window_s=window_s)
            subject = subjects.shadow(pool, name)
            report.envelope.CopyFrom(self._stamp.next(subject))
            report.pool, report.name, report.config_hash = pool, name, state.config.hash
            report.missed, report.wants_descriptors = self.events.gaps, True
            self._metrics.note(report)
            self._bus.publish(subject, report.SerializeToString())
        for gone in self._comparisons.keys() - set(self._view.pools()):
            del self._comparisons[gone]

    def _decide(self, event: RequestPicked, comparison: ShadowComparison) -> None:
        lease, now = event.lease, self._clock.monotonic()
        pick = self._picking.pick(event.descriptor, "", now, goes_there=False)
        pool = self._picking.pool(lease.pool)
        if pool is None:
            comparison.skip(Skipped.UNKNOWN_ENDPOINT)
            return
        production = lease.endpoint_uid or lease.endpoint_address
        found = comparison.compare(pick, production, self._predictor(pool))
        if found is None:
            return
        pool.config.scheduler.tell_picked(found.request, found.candidates, found.endpoint)
        self._picking.await_first_token(
            lease.lease_id, lease.pool, found.endpoint.uid, found.expected
        )

    def _predictor(self, pool: PoolScheduling) -> LatencyPredictor:
        """The configuration's own, with its parameters, where it has one."""
        for profile in pool.config.scheduler.profiles.values():
            for placed in profile.scorers:
                if isinstance(placed.plugin, LatencyPredictor):
                    return placed.plugin
        return self._yardstick

    def _served(self, event: RequestServing) -> None:
        self._picking.learn_first_token(event)
        lease = self.leases.get(event.lease_id)
        comparison = None if lease is None else self._comparison(lease.pool)
        if comparison is not None and event.ttft_ms:
            comparison.observe_ttft(event.ttft_ms / 1e3)

    def _finished(self, event: RequestFinished) -> None:
        self._picking.learn_finish(event)

    def _comparison(self, pool: str) -> ShadowComparison | None:
        known = self._comparisons.get(pool)
        if known is None and len(self._comparisons) < MOST_POOLS:
            known = self._comparisons[pool] = ShadowComparison()
        return known
