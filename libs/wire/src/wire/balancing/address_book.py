"""The addresses of a channel: those it was given, and those that its names stand for.

A name that cannot be resolved keeps the addresses that it had: a resolver out of order must not
end calls that would have worked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from wire.address import Endpoint, Target, TcpAddress
from wire.balancing.backoff import BackoffRules
from wire.balancing.rules import BalancingRules

_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Changes:
    added: Sequence[Endpoint]
    removed: Sequence[Endpoint]


class AddressBook:
    def __init__(self, targets: Iterable[Target], *, max_addresses_per_name: int) -> None:
        self._max_addresses = max_addresses_per_name
        self._known: dict[Target, Sequence[Endpoint]] = {
            target: [] if target.fixed is None else [target.endpoint(target.fixed)]
            for target in targets
        }
        self._told: list[Endpoint] = []

    @property
    def names(self) -> Sequence[Target]:
        """The targets that must be resolved."""
        return [target for target in self._known if target.fixed is None]

    def learn(self, name: Target, addresses: Iterable[TcpAddress]) -> None:
        """What a name stands for now. Nothing is taken for an error of the resolver."""
        # In one order, lest the ones over the limit be others each time.
        found = sorted({(address.host, address.port) for address in addresses})
        if found:
            chosen = found[: self._max_addresses]
            self._known[name] = [name.endpoint(TcpAddress(*pair)) for pair in chosen]

    def take_changes(self) -> Changes:
        """What has changed since this was asked last."""
        now = list(dict.fromkeys(item for found in self._known.values() for item in found))
        added = [endpoint for endpoint in now if endpoint not in self._told]
        removed = [endpoint for endpoint in self._told if endpoint not in now]
        self._told = now
        return Changes(added, removed)


class ResolutionSchedule:
    """When to ask for the names again."""

    def __init__(self, rules: BalancingRules, rng: Random) -> None:
        self._rules, self._rng = rules, rng
        self._retries = BackoffRules(
            first_s=rules.resolve_pause_s, longest_s=rules.resolve_interval_s
        )
        self._failures = 0
        self._asked_at = float("-inf")
        self.due_at = float("-inf")

    def asked(self, now: float, *, is_answered: bool) -> None:
        """The names have been asked for; not `is_answered`: one of them without success."""
        self._asked_at = now
        if is_answered:
            self._failures = 0
            wait_s = self._rules.resolve_interval_s * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
        else:
            wait_s = self._retries.wait_s(self._failures, self._rng)
            self._failures += 1
        self.due_at = now + wait_s

    def hurry(self) -> None:
        """Something failed that the names may know of: ask soon."""
        self.due_at = min(self.due_at, self._asked_at + self._rules.resolve_pause_s)
