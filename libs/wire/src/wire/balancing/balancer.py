"""Which of several connections takes the next call.

    absent --ready--> in line --failed--> passed over --its time is over--> in line
    any --not ready--> absent

A call goes to the member in line with the fewest open calls; ties take turns. The time of a member
that is passed over grows with each failure in a row, until it has answered a call. When all that
are ready are passed over, the one whose last failure is oldest takes the call: to try is better
than to refuse, and a fault that all share is no reason to prefer one.
"""

from collections.abc import Callable, Hashable, Sequence
from random import Random
from typing import Generic, Protocol, TypeVar

from wire.balancing.backoff import BackoffRules


class Member(Hashable, Protocol):
    """Compared by identity."""

    @property
    def open_calls(self) -> int: ...


MemberT = TypeVar("MemberT", bound=Member)


class Balancer(Generic[MemberT]):
    """On the hot path of each call: `benchmarks/bench_hop.py`."""

    def __init__(self, rules: BackoffRules, rng: Random) -> None:
        self._rules, self._rng = rules, rng
        self._ready: list[MemberT] = []
        self._in_line: list[MemberT] = []
        self._standing: dict[MemberT, _Standing] = {}
        self._next_return_at = float("inf")
        self._turn = 0

    @property
    def ready(self) -> Sequence[MemberT]:
        return self._ready

    @property
    def has_failures(self) -> bool:
        """`succeeded` is of use."""
        return bool(self._standing)

    def set_ready(self, member: MemberT, is_ready: bool, now: float) -> None:
        """The member can take calls, or can no more; its failures are remembered."""
        if is_ready and member not in self._ready:
            self._ready.append(member)
        elif not is_ready and member in self._ready:
            self._ready.remove(member)
        self._arrange(now)

    def forget(self, member: MemberT, now: float) -> None:
        """The member is gone for good."""
        self._standing.pop(member, None)
        self.set_ready(member, False, now)

    def pick(self, now: float) -> MemberT | None:
        """The member for the next call; `None` when none is ready."""
        if now >= self._next_return_at:
            self._arrange(now)
        members = self._in_line
        if len(members) == 1:
            return members[0]
        return self._fewest(members) if members else self._longest_unfailed(self._ready)

    def pick_among(self, now: float, can_take: Callable[[MemberT], bool]) -> MemberT | None:
        """The same of those that can take this call."""
        self._arrange(now)
        members = [member for member in self._in_line if can_take(member)]
        if members:
            return self._fewest(members)
        return self._longest_unfailed([member for member in self._ready if can_take(member)])

    def failed(self, member: MemberT, now: float) -> None:
        """A call of the member ended in a way that says that it should get no more for a while."""
        standing = self._standing.setdefault(member, _Standing())
        standing.failed_at = now
        if now >= standing.returns_at:  # else calls that were open when it began
            standing.returns_at = now + self._rules.wait_s(standing.failures, self._rng)
            standing.failures += 1
        self._arrange(now)

    def succeeded(self, member: MemberT, now: float) -> None:
        """The member answered a call. While it is passed over this says little: the call may have
        begun before it failed."""
        standing = self._standing.get(member)
        if standing is not None and now >= standing.returns_at:
            del self._standing[member]

    def _arrange(self, now: float) -> None:
        returns = {
            member: self._standing[member].returns_at
            for member in self._ready
            if member in self._standing and self._standing[member].returns_at > now
        }
        self._in_line = [member for member in self._ready if member not in returns]
        self._next_return_at = min(returns.values(), default=float("inf"))

    def _fewest(self, members: Sequence[MemberT]) -> MemberT:
        self._turn += 1
        start = self._turn % len(members)
        found = members[start]
        fewest = found.open_calls
        for member in (*members[start + 1 :], *members[:start]):
            if not fewest:
                break
            open_calls = member.open_calls
            if open_calls < fewest:
                found, fewest = member, open_calls
        return found

    def _longest_unfailed(self, members: Sequence[MemberT]) -> MemberT | None:
        return min(members, key=lambda member: self._standing[member].failed_at, default=None)


class _Standing:
    """Of a member that has failed and not answered since."""

    __slots__ = ("failed_at", "failures", "returns_at")

    def __init__(self) -> None:
        self.failures = 0
        self.failed_at = self.returns_at = float("-inf")
