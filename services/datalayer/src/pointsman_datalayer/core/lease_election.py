"""Who of the replicas may write: the holder of a Lease of the API server.

    WAIT ──nobody holds it, or the holder was silent for `duration_s`──▶ TAKE ──taken──▶ RENEW
     ▲                                                                                   │
     └───────────────────────another replica holds it────────────────────────────────────┘

The clocks of two machines are never compared: a holder is silent when its lease has not *changed*
for the time, as seen from here (as client-go's leaderelection does).
"""

from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What the lease says; any change of it is a sign of life."""

    holder: str = ""
    renewed_at: str = ""
    transitions: int = 0
    resource_version: str = ""


class Move(Enum):
    WAIT = "wait"
    TAKE = "take"
    RENEW = "renew"


@dataclass(slots=True)
class LeaseElection:
    identity: str
    duration_s: float
    _seen: LeaseRecord | None = field(default=None)
    _changed_at: float = field(default=0.0)
    _renewed_at: float = field(default=float("-inf"))

    def leads(self, now: float) -> bool:
        """Whether this replica may write; it stops before another may begin."""
        return now - self._renewed_at < self.duration_s * 2 / 3

    def next_move(self, record: LeaseRecord, now: float) -> Move:
        """What to do about a lease that was just read (an empty record: there is none)."""
        if record != self._seen:
            self._seen, self._changed_at = record, now
        if record.holder == self.identity:
            return Move.RENEW
        self._renewed_at = float("-inf")
        if not record.holder or now - self._changed_at >= self.duration_s:
            return Move.TAKE
        return Move.WAIT

    def renewed(self, asked_at: float) -> None:
        """The lease is ours as of when the write was begun."""
        self._renewed_at = asked_at
