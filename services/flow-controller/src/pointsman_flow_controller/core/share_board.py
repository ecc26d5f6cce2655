"""What each replica has told of its demand and service, and what part of the capacity that makes.

All replicas hear the same, this one's own messages included, so that they agree on the parts: of
each flow's part a replica gets as much as it holds of the flow's waiting requests,

    share of r in a band = Σ over flows f of  w(f) · queued(f, r) / queued(f)   over the same of all

with w(f) the weight that the band's fairness policy gives a flow. Each change costs O(replicas).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

HEARD_WITHIN_S = 0.4
"""A replica that was not heard for so long has no demand any more: told each 50 ms, it is gone.
That it was lost in one gap of the bus costs it no more than its share for as long."""

MOST_REPLICAS = 64
MOST_FLOWS = 65_536
"""Of one replica; what it tells beyond is not taken up."""

Key = tuple[int, str]
"""Priority and fairness id."""

Weigh = Callable[[int, str, int], float]
"""Weight of a flow (priority, fairness id) of which so many wait everywhere."""


@dataclass(frozen=True, slots=True)
class FlowDemand:
    """See FlowShare in flow.proto; `requests` and tokens count up from the replica's start."""

    priority: int
    fairness_id: str
    queued: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """What one flow was given since the last word."""

    priority: int
    fairness_id: str
    requests: int
    prompt_tokens: int
    output_tokens: int


@dataclass(slots=True)
class _Replica:
    epoch: int
    heard_at: float
    served_at: float = float("-inf")
    flows: dict[Key, FlowDemand] = field(default_factory=dict[Key, FlowDemand])
    queued: dict[int, int] = field(default_factory=dict[int, int])
    """By priority; none that is 0."""
    parts: dict[int, float] = field(default_factory=dict[int, float])
    """The sum above, by priority."""
    silent: bool = False
    """Not heard in time: counted as if nothing waited."""
    told_all: bool = False
    """Whether it has told of all its flows, so that what it names later is new."""


class ShareBoard:
    def __init__(self, me: str, weigh: Weigh) -> None:
        self.me, self._weigh = me, weigh
        self._replicas: dict[str, _Replica] = {}
        self._queued: dict[Key, int] = {}
        self.others_queued = 0
        """What waits at the other replicas."""

    def tell(
        self,
        replica: str,
        epoch: int,
        flows: Iterable[FlowDemand],
        *,
        whole: bool,
        now: float,
    ) -> list[Service]:
        """Take over a message; returns what its replica has let go since the one before.

        What a replica had let go before it was first heard is nobody's business here.
        """
        known = self._replicas.get(replica)
        first = known is None or known.epoch < epoch
        if known is None or first:
            if known is not None:
                self.forget(replica)
            elif len(self._replicas) >= MOST_REPLICAS:
                return []
            known = self._replicas[replica] = _Replica(epoch, now)
        elif epoch < known.epoch:
            return []
        known.heard_at = now
        if known.silent:
            known.silent = False
            self._count(known, 1)
        served: list[Service] = []
        named: set[Key] = set()
        for flow in flows:
            key = (flow.priority, flow.fairness_id)
            before = known.flows.get(key)
            if before is None and len(known.flows) >= MOST_FLOWS:
                continue
            named.add(key)
            known.flows[key] = flow
            self._change(known, key, flow.queued - (before.queued if before else 0))
            if before is None and not known.told_all:
                continue
            service = _difference(before, flow)
            if service is not None:
                served.append(service)
        if whole:
            known.told_all = True
            for key in known.flows.keys() - named:
                self._change(known, key, -known.flows.pop(key).queued)
        if served:
            known.served_at = now
        return served

    def forget(self, replica: str) -> None:
        """The replica has ended, or begun anew."""
        known = self._replicas.get(replica)
        if known is not None and not known.silent:
            self._count(known, -1)
        self._replicas.pop(replica, None)

    def expire(self, now: float) -> bool:
        """Take back the shares of who was not heard in time; returns whether there was one.

        What they were heard to have let go stays known, should they only have been cut off.
        """
        gone = False
        for name, known in self._replicas.items():
            late = now >= known.heard_at + HEARD_WITHIN_S
            if late and not known.silent and name != self.me and known.queued:
                known.silent = gone = True
                self._count(known, -1)
        return gone

    def next_expiry(self) -> float | None:
        """When `expire` may have to be called next; `None`: no other replica has demand."""
        heard = [
            known.heard_at
            for name, known in self._replicas.items()
            if name != self.me and known.queued and not known.silent
        ]
        return min(heard) + HEARD_WITHIN_S if heard else None

    def forget_silent(self, before: float) -> None:
        """Forget those that were last heard before a time, for good."""
        for name in [n for n, known in self._replicas.items() if known.heard_at < before]:
            if name != self.me:
                self.forget(name)

    def contested(self, priority: int) -> tuple[int, int]:
        """What waits at the other replicas: above a priority, and of that priority."""
        above = same = 0
        for name, known in self._replicas.items():
            if name == self.me or known.silent:
                continue
            for band, queued in known.queued.items():
                if band > priority:
                    above += queued
                elif band == priority:
                    same += queued
        return above, same

    def share(self, priority: int) -> float:
        """This replica's part of what its band is given, 0-1; 1.0 when nobody else asks."""
        mine = others = 0.0
        for name, known in self._replicas.items():
            part = 0.0 if known.silent else known.parts.get(priority, 0.0)
            if name == self.me:
                mine = part
            else:
                others += part
        return 1.0 if others <= 0.0 else mine / (mine + others)

    def place(self) -> tuple[int, int]:
        """This replica's place among those that are heard, by name, and their number."""
        names = sorted({self.me, *(n for n, known in self._replicas.items() if not known.silent)})
        return names.index(self.me), len(names)

    def serving_peers(self, since: float) -> int:
        """Other replicas that have let something go since a time."""
        return sum(
            known.served_at >= since and not known.silent
            for name, known in self._replicas.items()
            if name != self.me
        )

    def reweigh(self) -> None:
        """The fairness policies have changed."""
        for known in self._replicas.values():
            known.parts.clear()
        for known in self._replicas.values():
            if not known.silent:
                for key, flow in known.flows.items():
                    _add(known.parts, key[0], self._part(key, flow.queued))

    def _count(self, known: _Replica, sign: int) -> None:
        """Have all that a replica has told count, or count no more."""
        if known is not self._replicas.get(self.me):
            self.others_queued += sign * sum(known.queued.values())
        for key, flow in known.flows.items():
            if flow.queued:
                self._sum(key, sign * flow.queued, without=known)
        known.parts.clear()
        if sign > 0:
            for key, flow in known.flows.items():
                _add(known.parts, key[0], self._part(key, flow.queued))

    def _change(self, known: _Replica, key: Key, difference: int) -> None:
        if not difference:
            return
        priority = key[0]
        if known is not self._replicas.get(self.me):
            self.others_queued += difference
        left = known.queued.get(priority, 0) + difference
        if left:
            known.queued[priority] = left
        else:
            known.queued.pop(priority, None)
        flow = known.flows.get(key)
        after = flow.queued if flow is not None else 0
        _add(known.parts, priority, -self._part(key, after - difference))
        self._sum(key, difference, without=known)
        _add(known.parts, priority, self._part(key, after))
        if not left:
            known.parts.pop(priority, None)  # not what rounding has left of it

    def _sum(self, key: Key, difference: int, *, without: _Replica) -> None:
        """Another number of a flow's requests wait everywhere: all others' parts change."""
        others = [
            (known, flow.queued)
            for known in self._replicas.values()
            if known is not without and not known.silent and (flow := known.flows.get(key))
        ]
        for known, queued in others:
            _add(known.parts, key[0], -self._part(key, queued))
        left = self._queued.get(key, 0) + difference
        if left > 0:
            self._queued[key] = left
        else:
            self._queued.pop(key, None)
        for known, queued in others:
            _add(known.parts, key[0], self._part(key, queued))

    def _part(self, key: Key, queued: int) -> float:
        everywhere = self._queued.get(key, 0)
        if not queued or not everywhere:
            return 0.0
        return self._weigh(key[0], key[1], everywhere) * queued / everywhere


def _add(parts: dict[int, float], priority: int, value: float) -> None:
    if value:
        parts[priority] = parts.get(priority, 0.0) + value


def _difference(before: FlowDemand | None, after: FlowDemand) -> Service | None:
    """Without a word before, or when the replica has taken the flow up anew, all of it is new."""
    if before is None or after.requests < before.requests:
        before = FlowDemand(after.priority, after.fairness_id)
    found = Service(
        after.priority,
        after.fairness_id,
        after.requests - before.requests,
        after.prompt_tokens - before.prompt_tokens,
        after.output_tokens - before.output_tokens,
    )
    return found if found.requests or found.prompt_tokens or found.output_tokens else None
