from collections.abc import Mapping
from typing import Any

import msgspec

from pointsman_scheduler.core.arrays import BoolArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.filters.label_mask import LabelMask


class MatchExpression(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A Kubernetes LabelSelector."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[MatchExpression, ...] = ()

    def __post_init__(self) -> None:
        for expression in self.match_expressions:
            if expression.operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
                raise ValueError(f"no operator {expression.operator!r}")
            if (expression.operator in ("In", "NotIn")) != bool(expression.values):
                raise ValueError(
                    f"{expression.operator} of {expression.key!r} with values "
                    f"{list(expression.values)}"
                )

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            _holds(expression, labels) for expression in self.match_expressions
        )


class LabelSelectorFilter:
    """Keeps the endpoints whose labels match a Kubernetes LabelSelector; an empty one matches all.

    Source: llm-d-router's label-selector-filter.
    """

    def __init__(self, selector: LabelSelector) -> None:
        self._mask = LabelMask(selector.matches)

    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        del request
        return self._mask.of(candidates)


class ByLabel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    label: str
    valid_values: tuple[str, ...] = ()
    allows_no_label: bool = False

    def __post_init__(self) -> None:
        if not self.label:
            raise ValueError("label is empty")
        if not self.valid_values and not self.allows_no_label:
            raise ValueError("validValues is empty and allowsNoLabel is false: nothing could match")

    def matches(self, labels: Mapping[str, str]) -> bool:
        value: Any = labels.get(self.label)
        return self.allows_no_label if value is None else value in self.valid_values


class ByLabelFilter:
    """Keeps the endpoints where one label has one of some values, or is absent if that is allowed.

    Source: llm-d-router's by-label.
    """

    def __init__(self, parameters: ByLabel) -> None:
        self._mask = LabelMask(parameters.matches)

    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        del request
        return self._mask.of(candidates)


def _holds(expression: MatchExpression, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression.key)
    match expression.operator:
        case "In":
            return value in expression.values
        case "NotIn":
            return value not in expression.values
        case "Exists":
            return value is not None
        case _:
            return value is None
