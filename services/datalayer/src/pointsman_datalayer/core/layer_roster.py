"""Which replicas of which layers are alive, from their heartbeats, and what they last said."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from pointsman_common.contracts.events_pb2 import LayerHeartbeat, ShadowReport
from pointsman_common.contracts.flow_pb2 import FlowStats

MAX_REPLICAS = 1000
MAX_SHADOWS = 200
SHADOW_REPORTS = 60
"""The latest of each shadow."""
ORDER = ("ext-proc", "router", "flow-controller", "scheduler", "datalayer")


@dataclass(frozen=True, slots=True)
class Heard:
    beat: LayerHeartbeat
    at: float
    """Monotonic seconds."""


@dataclass(frozen=True, slots=True)
class ShadowHeard:
    """What one replica of a shadow scheduler has reported lately."""

    reports: deque[ShadowReport]
    """Oldest first; at least one."""
    at: float
    """When the last came, monotonic seconds."""


class LayerRoster:
    """Replicas silent for `forget_after_s` are left out, as are their queues and, later, what
    shadows have reported."""

    def __init__(
        self,
        *,
        forget_after_s: float = 30.0,
        flows_stale_after_s: float = 5.0,
        shadows_stale_after_s: float = 600.0,
    ) -> None:
        self._forget_after_s, self._flows_stale_after_s = forget_after_s, flows_stale_after_s
        self._shadows_stale_after_s = shadows_stale_after_s
        self._shadows: dict[tuple[str, str, str], ShadowHeard] = {}
        self._heard: dict[str, Heard] = {}
        self._flows: dict[tuple[str, str], tuple[FlowStats, float]] = {}

    def heard(self, beat: LayerHeartbeat, now: float) -> None:
        known = self._heard.get(beat.envelope.publisher)
        if known is None and len(self._heard) >= MAX_REPLICAS:
            self._forget(now)
            if len(self._heard) >= MAX_REPLICAS:
                return
        if known is None or _position(beat) > _position(known.beat):
            self._heard[beat.envelope.publisher] = Heard(beat, now)

    def told_flows(self, stats: FlowStats, now: float) -> None:
        key = (stats.pool, stats.envelope.publisher)
        if key in self._flows or len(self._flows) < MAX_REPLICAS:
            self._flows[key] = (stats, now)

    def told_shadow(self, report: ShadowReport, now: float) -> None:
        key = (report.pool, report.name, report.envelope.publisher)
        known = self._shadows.get(key)
        if known is None and len(self._shadows) >= MAX_SHADOWS:
            self._forget(now)
            if len(self._shadows) >= MAX_SHADOWS:
                return
        reports = known.reports if known else deque[ShadowReport](maxlen=SHADOW_REPORTS)
        reports.append(report)
        self._shadows[key] = ShadowHeard(reports, now)

    def replicas(self, now: float) -> list[Heard]:
        """In the order of a request's way, then by replica."""
        self._forget(now)
        return sorted(self._heard.values(), key=_rank)

    def flows(self, pool: str, now: float) -> Iterator[FlowStats]:
        """What each flow-controller replica last said of its queues for a pool."""
        self._forget(now)
        return (stats for (name, _), (stats, _) in self._flows.items() if name == pool)

    def shadows(self, pool: str, now: float) -> list[ShadowHeard]:
        """What the shadows of a pool have reported, by their names and replicas."""
        self._forget(now)
        keys = sorted(key for key in self._shadows if key[0] == pool)
        return [self._shadows[key] for key in keys]

    def queued(self, pool: str, now: float) -> int:
        """Requests that wait with the flow controllers, all replicas together."""
        return sum(
            sum(band.queued for band in stats.bands or stats.flows)
            for stats in self.flows(pool, now)
        )

    def _forget(self, now: float) -> None:
        for shadow, told in list(self._shadows.items()):
            if now - told.at > self._shadows_stale_after_s:
                del self._shadows[shadow]
        for replica, heard in list(self._heard.items()):
            if now - heard.at > self._forget_after_s:
                del self._heard[replica]
        for key, (_, at) in list(self._flows.items()):
            if now - at > self._flows_stale_after_s:
                del self._flows[key]


def _position(beat: LayerHeartbeat) -> tuple[int, int]:
    return beat.envelope.epoch, beat.envelope.sequence


def _rank(heard: Heard) -> tuple[int, str, str]:
    layer = heard.beat.description.layer
    place = ORDER.index(layer) if layer in ORDER else len(ORDER)
    return place, layer, heard.beat.envelope.publisher
