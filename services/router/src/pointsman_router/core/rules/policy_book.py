"""The policies in force for each pool: taken over when they are good, kept when the next is not.

A policy that stays word for word keeps its rules, with what they have learnt (caches, circuits).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pointsman_common.errors import SettingsError
from pointsman_common.inference_pool import RoutePolicy
from pointsman_router.core.rules.route_policy import Catalogue, parse_policy
from pointsman_router.core.rules.rule_chain import ConfiguredRule, RuleChain

OnRefused = Callable[[str, str, SettingsError], None]
"""Told the pool, the policy and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class _Policy:
    spec: str
    rules: Sequence[ConfiguredRule]


class PolicyBook:
    """Rules of the router's own come first, then those of the pool's policies by name."""

    def __init__(self, catalogue: Catalogue, on_refused: OnRefused) -> None:
        self._catalogue, self._on_refused = catalogue, on_refused
        self._own: dict[str, Sequence[ConfiguredRule]] = {}
        self._pools: dict[str, dict[str, _Policy]] = {}
        self.refused: dict[tuple[str, str], str] = {}
        """Why a policy is not in force, by pool and policy: of those that there are now. The pool
        of the router's own is empty."""

    def use_own(self, name: str, spec: object) -> None:
        """Take over the router's own rules of one name, for all pools.

        Raises:
            SettingsError: they cannot be; those before stay.
        """
        self._own[name] = parse_policy(name, spec, self._catalogue)
        self.refused.pop(("", name), None)

    def refuse_own(self, name: str, error: SettingsError) -> None:
        """Rules of the router's own could not be read or taken over: those before stay."""
        self.refused["", name] = str(error)

    def use(self, pool: str, policies: Sequence[RoutePolicy]) -> None:
        """Take over the policies of a pool."""
        before = self._pools.get(pool, {})
        self._pools[pool] = {
            policy.name: taken
            for policy in policies
            if (taken := self._taken(pool, policy, before.get(policy.name))) is not None
        }
        there = {policy.name for policy in policies}
        self.refused = {
            key: why for key, why in self.refused.items() if key[0] != pool or key[1] in there
        }

    def forget(self, pool: str) -> None:
        self.use(pool, ())
        del self._pools[pool]

    def chain(self, pool: str) -> RuleChain | None:
        """The rules of a pool; `None`: there are none."""
        policies = self._pools.get(pool, {})
        rules = [rule for own in self._own.values() for rule in own]
        rules += [rule for policy in policies.values() for rule in policy.rules]
        return RuleChain(rules) if rules else None

    def described(self) -> Mapping[str, Any]:
        """What is in force and what was refused, for people."""
        return {
            "own": [rule.name for own in self._own.values() for rule in own],
            "pools": {
                pool: [rule.name for policy in policies.values() for rule in policy.rules]
                for pool, policies in self._pools.items()
            },
            "refused": [
                {"pool": pool, "policy": policy, "why": why}
                for (pool, policy), why in sorted(self.refused.items())
            ],
        }

    def _taken(self, pool: str, policy: RoutePolicy, before: _Policy | None) -> _Policy | None:
        if before is not None and before.spec == policy.spec:
            self.refused.pop((pool, policy.name), None)
            return before
        try:
            try:
                spec = json.loads(policy.spec)
            except (ValueError, RecursionError) as error:
                raise SettingsError("spec", "is no JSON") from error
            rules = parse_policy(policy.name, spec, self._catalogue)
        except SettingsError as error:
            if self.refused.get((pool, policy.name)) != str(error):
                self.refused[pool, policy.name] = str(error)
                self._on_refused(pool, policy.name, error)
            return before
        self.refused.pop((pool, policy.name), None)
        return _Policy(policy.spec, rules)
