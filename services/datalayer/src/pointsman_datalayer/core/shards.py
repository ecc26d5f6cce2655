"""Which replica of the datalayer reads which endpoint, and which one speaks for a pool.

Rendezvous hashing: the replica with the highest hash of (replica, key) has the key, so that one
that dies or joins moves only its own share (source: Thaler and Ravishankar, "Using name-based
mappings to increase hit rates", 1998). One that has just joined has no share until it has been
there for `SETTLED_S`: by then it knows the pools, and what the others have read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from xxhash import xxh64_intdigest

SETTLED_S = 2.0


def highest(replicas: frozenset[str], key: str) -> str:
    """The replica that has a key."""
    return max(
        replicas, key=lambda replica: (xxh64_intdigest(f"{replica}\0{key}".encode()), replica)
    )


@dataclass(slots=True)
class Shards:
    """As this replica sees it. It reads everything until it has heard of others."""

    replica: str
    decided: bool = True
    """Whether the others are known, or known not to be there; nobody speaks before."""
    members: frozenset[str] = frozenset()
    """Replicas that have a share."""
    others: bool = False
    """Whether there are other replicas, with a share or not."""
    _listeners: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def owns(self, uid: str) -> bool:
        """Whether this replica reads an endpoint."""
        return not self.members or highest(self.members, uid) == self.replica

    def speaks(self, pool: str) -> bool:
        """Whether this replica tells of a pool on the bus."""
        return self.decided and (not self.members or highest(self.members, pool) == self.replica)

    def heard(self, ages_s: Mapping[str, float]) -> bool:
        """Take over who is there, and since when; returns whether the shares have changed."""
        settled = frozenset(
            name
            for name, age_s in ages_s.items()
            # Once settled is settled: Redis may have lost its memory meanwhile.
            if age_s >= SETTLED_S or name in self.members
        )
        if not settled and ages_s:  # all have just started: the first of them
            settled = frozenset({max(ages_s, key=lambda name: (ages_s[name], name))})
        self.others = any(name != self.replica for name in ages_s)
        if (settled, True) == (self.members, self.decided):
            return False
        self.members, self.decided = settled, True
        for listener in self._listeners:
            listener()
        return True

    def give_up_waiting(self) -> None:
        """Nobody can be asked who is there: go on with the last share, or with everything."""
        if not self.decided:
            self.decided = True
            for listener in self._listeners:
                listener()
