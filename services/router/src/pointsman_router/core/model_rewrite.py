"""Which model a request is for, once the pool's rules have had their say.

Order, as upstream has it: a rewrite header names the target first; a rule that matches the model
*asked for* overrides it. A rule that names models goes before one for any model; among equals the
one with the higher precedence (the order in which the datalayer gives them).

Weights are kept exactly, not in expectation: targets are taken by smooth weighted round-robin
(nginx, ngx_http_upstream_round_robin.c), whose sequence repeats after sum(weights) / gcd(weights)
picks. Any run of that many consecutive requests holds each target exactly in its share; for
weights in percent that is any 100 requests. The count is kept by each replica for itself.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pointsman_common.inference_pool import ModelRule, ModelTarget


class ModelChoice(NamedTuple):
    target_model: str
    rule: ModelRule | None
    """The rule that matched; it may have no targets, and then only a priority."""
    by_rule: bool
    """The target is the rule's."""


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
        self._turns: dict[ModelRule, SmoothRoundRobin] = {}

    def use(self, rules: Sequence[ModelRule]) -> None:
        """Take over rules, highest precedence first."""
        exact: dict[str, ModelRule] = {}
        generic: ModelRule | None = None
        for rule in rules:
            if not rule.models:
                generic = generic or rule
            for model in rule.models:
                exact.setdefault(model, rule)
        self._exact, self._generic = exact, generic
        self._turns = {
            rule: self._turns.get(rule) or SmoothRoundRobin(rule.targets)
            for rule in rules
            if rule.targets
        }

    def rule_of(self, model: str) -> ModelRule | None:
        return self._exact.get(model, self._generic)

    def choose(self, model: str, *, header: str | None) -> ModelChoice:
        """The target of one request for `model`; `header` is the rewrite header's value."""
        rule = self.rule_of(model)
        if rule is not None and rule.targets:
            return ModelChoice(self._turns[rule].take(), rule, by_rule=True)
        return ModelChoice(header or model, rule, by_rule=False)
