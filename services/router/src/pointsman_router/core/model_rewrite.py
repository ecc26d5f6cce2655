"""Which model a request is for, once the pool's rules have had their say.

Order, as upstream has it: a rewrite header names the target first; a rule that matches the model
*asked for* overrides it. A rule that names models goes before one for any model; among equals the
one with the higher precedence (the order in which the datalayer gives them).

Weights are kept exactly, not in expectation: targets are taken by smooth weighted round-robin
(nginx, ngx_http_upstream_round_robin.c), whose sequence repeats after sum(weights) / gcd(weights)
picks. Any run of that many consecutive requests holds each target exactly in its share; for
weights in percent that is any 100 requests. The count is kept by each replica for itself.

A request with a sticky key takes no turn: its target follows from a hash of the key, the same in
every replica. As targets keep their order, a change of weights moves only as many keys as it must.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import xxhash

from pointsman_common.inference_pool import ModelRule, ModelTarget


class ModelChoice(NamedTuple):
    target_model: str
    rule: ModelRule | None
    """The rule that chose the target; `None`: none did."""
    priority: int | None
    """Of the first rule for the model that has one: an InferenceModel's criticality."""


class SmoothRoundRobin:
    """Hands out names in proportion to their weights, as evenly spread as may be.

    Where no target has a weight all are equal; where only some have, the others are never taken.
    """

    def __init__(self, targets: Sequence[ModelTarget]) -> None:
        unweighted = not any(target.weight for target in targets)
        self._names = [target.model for target in targets]
        self._weights = [1 if unweighted else target.weight for target in targets]
        self._total = sum(self._weights)
        self._current = [0] * len(targets)

    def of_key(self, key: str) -> str:
        """The target that a key always has, as long as the weights stay."""
        # 64 bits of hash over a total of weights below 2^27: the bias is below 2^-36.
        point = xxhash.xxh64_intdigest(key.encode()) % self._total
        for name, weight in zip(self._names, self._weights, strict=True):
            point -= weight
            if point < 0:
                return name
        return self._names[-1]

    def take(self) -> str:
        best = -1
        for index, weight in enumerate(self._weights):
            self._current[index] += weight
            if weight and (best < 0 or self._current[index] > self._current[best]):
                best = index
        self._current[best] -= self._total
        return self._names[best]


class ModelRewriter:
    """The rules of one pool. A rule that a new configuration keeps goes on where it was."""

    def __init__(self) -> None:
        self._exact: Mapping[str, ModelRule] = {}
        self._generic: ModelRule | None = None
        self._priorities: Mapping[str, int] = {}
        self._any_priority: int | None = None
        self._turns: dict[ModelRule, SmoothRoundRobin] = {}

    def use(self, rules: Sequence[ModelRule]) -> None:
        """Take over rules, highest precedence first."""
        exact: dict[str, ModelRule] = {}
        generic: ModelRule | None = None
        priorities: dict[str, int] = {}
        any_priority: int | None = None
        # Targets and priority are looked up apart: a rewrite that comes first must not hide the
        # priority that an InferenceModel gives the same model.
        for rule in rules:
            if rule.targets and not rule.models:
                generic = generic or rule
            if rule.priority is not None and not rule.models and any_priority is None:
                any_priority = rule.priority
            for model in rule.models:
                if rule.targets:
                    exact.setdefault(model, rule)
                if rule.priority is not None:
                    priorities.setdefault(model, rule.priority)
        self._exact, self._generic = exact, generic
        self._priorities, self._any_priority = priorities, any_priority
        self._turns = {
            rule: self._turns.get(rule) or SmoothRoundRobin(rule.targets)
            for rule in rules
            if rule.targets
        }

    def choose(self, model: str, *, header: str | None, sticky_key: str = "") -> ModelChoice:
        """The target of one request for `model`; `header` is the rewrite header's value."""
        priority = self._priorities.get(model, self._any_priority)
        rule = self._exact.get(model, self._generic)
        if rule is None:
            return ModelChoice(header or model, None, priority)
        turns = self._turns[rule]
        target = turns.of_key(sticky_key) if sticky_key else turns.take()
        return ModelChoice(target, rule, priority)
