"""The Prometheus text format as vLLM's client library writes it: order, label order and numbers."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

Labels = Mapping[str, str]


def format_value(value: float) -> str:
    """Return a number in the library's way: `1.0`, `+Inf`, `1.795514565e+09`."""
    if value == float("inf"):
        return "+Inf"
    text = repr(float(value))
    point = text.find(".")
    # Python prints digits up to 1e16; Go, which sets the format, has an exponent from 1e6 on.
    if value > 0 and point > 6 and "e" not in text:
        digits = f"{text[0]}.{text[1:point]}{text[point + 1 :]}".rstrip("0.")
        return f"{digits}e+0{point - 1}"
    return text


def format_labels(labels: Labels) -> str:
    """Return `{name="value",…}`, sorted by name."""
    pairs = (f'{name}="{_escape(labels[name])}"' for name in sorted(labels))
    return "{" + ",".join(pairs) + "}"


def family(name: str, kind: str, help_text: str) -> list[str]:
    """Return the two lines that open a metric family."""
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]


def sample(name: str, labels: Labels, value: float) -> str:
    """Return one line."""
    return f"{name}{format_labels(labels)} {format_value(value)}"


class Histogram:
    """Counts observations by upper bound. Its names and labels are put into text once."""

    def __init__(self, name: str, labels: Labels, bounds: Sequence[float]) -> None:
        self._bounds = (*bounds, float("inf"))
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        all_labels = [{**labels, "le": format_value(bound)} for bound in self._bounds]
        self._buckets = [f"{name}_bucket{format_labels(each)} " for each in all_labels]
        self._tail = [f"{name}_{part}{format_labels(labels)} " for part in ("count", "sum")]

    def observe(self, value: float, times: int = 1) -> None:
        """Count `times` observations of `value`."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def lines(self) -> list[str]:
        """Return the samples: cumulative buckets, count and sum."""
        totals = list(accumulate(self._counts))
        lines = [
            bucket + format_value(total)
            for bucket, total in zip(self._buckets, totals, strict=True)
        ]
        count, total_sum = self._tail
        return [*lines, count + format_value(totals[-1]), total_sum + format_value(self._sum)]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
