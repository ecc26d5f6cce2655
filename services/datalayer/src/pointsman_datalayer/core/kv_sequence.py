"""Puts an engine's batches in order: what to apply, what to ask for again, when to start over.

    REPLAYING from 0, where the engine can ──▶ FOLLOWING
    FOLLOWING ──next──▶ apply
        │──later──▶ REPLAYING (asked for what is missing; what comes meanwhile waits)
        │              ├──all of it came──▶ apply it, then what waited ──▶ FOLLOWING
        │              └──it is lost, or nobody answers──▶ clear, apply what there is ──▶ FOLLOWING
        └──earlier──▶ a restarted engine counts from 0 again: clear, apply

Batches are numbered from 0. One that is heard of first in the middle of an engine's life is a gap
from 0 on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Batch = TypeVar("Batch")

MAX_WAITING = 10_000
"""Batches that wait for a replay; as many as an engine keeps for one."""


@dataclass(slots=True)
class KvSequence(Generic[Batch]):
    can_replay: bool
    next_sequence: int = 0
    replay_from: int | None = None
    """Ask the engine for all batches from here on; `None`: nothing is to be asked."""
    _waiting: dict[int, Batch] = field(default_factory=dict[int, Batch])

    def __post_init__(self) -> None:
        if self.can_replay:  # the engine may have run for long, and say nothing for long
            self.replay_from = 0

    def receive(self, sequence: int, batch: Batch) -> "Ordered[Batch]":
        """Take one batch as it was published."""
        if self.replay_from is not None:
            return self._receive_meanwhile(sequence, batch)
        if sequence < self.next_sequence:
            return self._start_over({sequence: batch})
        if sequence > self.next_sequence and self.can_replay:
            self.replay_from, self._waiting = self.next_sequence, {sequence: batch}
            return Ordered()
        return self._apply({sequence: batch})

    def _receive_meanwhile(self, sequence: int, batch: Batch) -> "Ordered[Batch]":
        if sequence < self.next_sequence and sequence < min(self._waiting, default=0):
            return self._start_over({sequence: batch})
        self._waiting[sequence] = batch
        return Ordered() if len(self._waiting) <= MAX_WAITING else self.replayed({})

    def replayed(self, batches: Mapping[int, Batch]) -> "Ordered[Batch]":
        """The answer to `replay_from` is here; empty when nobody answered."""
        self.replay_from = None
        found = {**batches, **self._waiting}
        self._waiting = {}
        wanted = {number: batch for number, batch in found.items() if number >= self.next_sequence}
        return self._apply(wanted)

    def look_again(self) -> None:
        """Nothing has come for a while: perhaps the last of it was lost."""
        if self.can_replay and self.replay_from is None:
            self.replay_from = self.next_sequence

    def restarted(self) -> "Ordered[Batch]":
        """The engine is known to be another one: what it had is gone."""
        return self._start_over({})

    def _start_over(self, batches: Mapping[int, Batch]) -> "Ordered[Batch]":
        self.next_sequence, self.replay_from, self._waiting = 0, None, {}
        if self.can_replay and 0 not in batches:
            self.replay_from, self._waiting = 0, dict(batches)
            return Ordered(cleared=True)
        return Ordered(self._apply(batches).batches, cleared=True)

    def _apply(self, batches: Mapping[int, Batch]) -> "Ordered[Batch]":
        cleared, usable = False, list[Batch]()
        for number in sorted(batches):
            if number != self.next_sequence:
                # What was told in between is lost: nothing before it can be believed.
                cleared, usable = True, []
            usable.append(batches[number])
            self.next_sequence = number + 1
        return Ordered(tuple(usable), cleared=cleared)


@dataclass(frozen=True, slots=True)
class Ordered(Generic[Batch]):
    """Batches to apply now, after all has been cleared or not."""

    batches: tuple[Batch, ...] = ()
    cleared: bool = False
