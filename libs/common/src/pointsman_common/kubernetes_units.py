"""Amounts and times as Kubernetes and Go write them: `1Gi`, `10k`, `1m30s`."""

import re
from collections.abc import Mapping
from decimal import Decimal

from pointsman_common.errors import SettingsError

_QUANTITY = re.compile(
    r"(\+?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([eE][+-]?[0-9]{1,2})|(m|k|[MGTPE]|[KMGTPE]i))?"
)
_LARGEST_QUANTITY = 2**63 - 1
_QUANTITY_UNITS: Mapping[str, Decimal] = {
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION_UNITS: Mapping[str, float] = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}


def parse_quantity(value: int | str | None) -> int | None:
    """A Kubernetes quantity as a whole number, rounded up (`1Gi`, `500M`, `10k`); `None` stays.

    Source: k8s.io/apimachinery, pkg/api/resource/quantity.go.

    Raises:
        SettingsError: not a quantity, or below 0.
    """
    if value is None:
        return None
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise SettingsError("quantity", f"{value!r} is no Kubernetes quantity of 0 or more")
    number, exponent, unit = match.groups()
    exact = Decimal(number + (exponent or "")) * _QUANTITY_UNITS.get(unit or "", Decimal(1))
    if exact > _LARGEST_QUANTITY:
        raise SettingsError("quantity", f"{value!r} is too large")
    return int(exact.to_integral_value(rounding="ROUND_CEILING"))


def parse_duration_s(text: str) -> float:
    """A Go duration (`1m30s`, `200ms`) in seconds.

    Source: Go's time.ParseDuration; negative durations make no sense here.

    Raises:
        SettingsError: not a duration.
    """
    if text == "0":
        return 0.0
    if not re.fullmatch(f"(?:{_DURATION_PART.pattern})+", text):
        raise SettingsError("duration", f"{text!r} is no duration such as 30s or 200ms")
    return sum(float(part[1]) * _DURATION_UNITS[part[2]] for part in _DURATION_PART.finditer(text))
