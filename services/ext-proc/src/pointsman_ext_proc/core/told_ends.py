"""Ends of other edges' leases that were told lately: by this edge, or heard from its peers."""

from collections import OrderedDict
from collections.abc import Iterable

from pointsman_common.contracts import events_pb2


class ToldEnds:
    """Remembers the last `most` ends, each for `keep_s` seconds. Times are monotonic seconds."""

    def __init__(self, *, most: int, keep_s: float) -> None:
        self._most, self._keep_s = most, keep_s
        # As bytes: a message kept alone holds several times the memory.
        self._ends: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._ends

    def add(self, event: events_pb2.RequestFinished, now: float) -> None:
        """The first telling counts: repeated, it is not remembered for longer."""
        if event.lease_id in self._ends:
            return
        self._ends[event.lease_id] = (now, event.SerializeToString())
        if len(self._ends) > self._most:
            self._ends.popitem(last=False)

    def among(self, lease_ids: Iterable[str]) -> list[events_pb2.RequestFinished]:
        """The ends of those leases that are known to have ended."""
        found = (self._ends.get(lease_id) for lease_id in lease_ids)
        return [events_pb2.RequestFinished.FromString(end[1]) for end in found if end is not None]

    def expire(self, now: float) -> None:
        while self._ends:
            told_at, _ = next(iter(self._ends.values()))
            if now - told_at < self._keep_s:
                return
            self._ends.popitem(last=False)
