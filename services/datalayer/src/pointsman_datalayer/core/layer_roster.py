"""Which replicas of which layers are alive, from their heartbeats, and what they last said."""

from collections.abc import Iterator
from dataclasses import dataclass

from pointsman_common.contracts.events_pb2 import LayerHeartbeat
from pointsman_common.contracts.flow_pb2 import FlowStats

MAX_REPLICAS = 1000
ORDER = ("ext-proc", "router", "flow-controller", "scheduler", "datalayer")


@dataclass(frozen=True, slots=True)
class Heard:
    beat: LayerHeartbeat
    at: float
    """Monotonic seconds."""


class LayerRoster:
    """Replicas silent for `forget_after_s` are left out, as are their queues."""

    def __init__(self, *, forget_after_s: float = 30.0, flows_stale_after_s: float = 5.0) -> None:
        self._forget_after_s, self._flows_stale_after_s = forget_after_s, flows_stale_after_s
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

    def replicas(self, now: float) -> list[Heard]:
        """In the order of a request's way, then by replica."""
        self._forget(now)
        return sorted(self._heard.values(), key=_rank)

    def flows(self, pool: str, now: float) -> Iterator[FlowStats]:
        """What each flow-controller replica last said of its queues for a pool."""
        self._forget(now)
        return (stats for (name, _), (stats, _) in self._flows.items() if name == pool)

    def _forget(self, now: float) -> None:
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
