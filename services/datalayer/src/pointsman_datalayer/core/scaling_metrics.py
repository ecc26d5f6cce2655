"""What autoscalers may ask of a pool: each metric by its name, and the label selectors that choose.

Names, labels and quantities as Kubernetes' external metrics have them.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pointsman_common.contracts.pool_pb2 import Regime

RECOMMENDED_REPLICAS = "pointsman_recommended_replicas"


def _if_known(field: str) -> Callable[[Regime], float | None]:
    return lambda regime: float(getattr(regime, field)) if regime.HasField(field) else None


METRICS: Mapping[str, Callable[[Regime], float | None]] = {
    RECOMMENDED_REPLICAS: _if_known("recommended_replicas"),
    "pointsman_pool_saturation": lambda regime: regime.saturation if regime.scarcity else None,
    "pointsman_pool_utilization": _if_known("utilization"),
    "pointsman_pool_predicted_ttft_seconds": _if_known("predicted_ttft_s"),
    "pointsman_pool_requests_per_second": lambda regime: regime.requests_per_s,
    "pointsman_pool_queued_requests": lambda regime: float(regime.queued_requests),
    "pointsman_pool_waiting_requests": lambda regime: float(regime.waiting_requests),
    "pointsman_pool_running_requests": lambda regime: float(regime.running_requests),
}
"""From a regime to a value; `None`: not known now."""


def labels_of(pool: str) -> dict[str, str]:
    namespace, _, name = pool.partition("/")
    return {"namespace": namespace, "pool": name}


def quantity(value: float) -> str:
    """As Kubernetes writes numbers: whole, or in thousandths."""
    thousandths = round(value * 1000)
    whole, rest = divmod(thousandths, 1000)
    return f"{thousandths}m" if rest else str(whole)


class SelectorError(ValueError):
    """A label selector cannot be read; the message says where."""


@dataclass(frozen=True, slots=True)
class Requirement:
    label: str
    values: frozenset[str] | None
    """`None`: any value."""
    negated: bool = False

    def holds(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.label)
        among = found is not None and (self.values is None or found in self.values)
        return among != self.negated


_PART = re.compile(
    r"\s*(?:"
    r"(?P<absent>!)\s*(?P<missing>[\w./-]+)"
    r"|(?P<key>[\w./-]+)\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\)"
    r"|(?P<name>[\w./-]+)\s*(?P<sign>==|=|!=)\s*(?P<value>[\w./-]*)"
    r"|(?P<present>[\w./-]+)"
    r")\s*(?:,|$)"
)


def parse_selector(text: str) -> tuple[Requirement, ...]:
    """Read `a=b,c!=d,e in (f,g),h notin (i),j,!k`; empty: everything.

    Raises:
        SelectorError: it is none.
    """
    found: list[Requirement] = []
    place = 0
    while place < len(text.rstrip()):
        part = _PART.match(text, place)
        if part is None:
            raise SelectorError(f"label selector {text!r} cannot be read at {text[place:]!r}")
        found.append(_requirement(part))
        place = part.end()
    if text.rstrip().endswith(","):
        raise SelectorError(f"label selector {text!r} ends with a comma")
    return tuple(found)


def matches(selector: Iterable[Requirement], labels: Mapping[str, str]) -> bool:
    return all(requirement.holds(labels) for requirement in selector)


def _requirement(part: re.Match[str]) -> Requirement:
    if part["absent"]:
        return Requirement(part["missing"], None, negated=True)
    if part["set"]:
        values = frozenset(value.strip() for value in part["values"].split(","))
        return Requirement(part["key"], values, negated=part["set"] == "notin")
    if part["sign"]:
        return Requirement(part["name"], frozenset({part["value"]}), negated=part["sign"] == "!=")
    return Requirement(part["present"], None)
