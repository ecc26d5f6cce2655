"""Reads a few wanted families from an exposition of a hundred kilobytes, and skips the rest.

The text format of Prometheus (exposition format 0.0.4) and OpenMetrics, as far as they agree: one
sample a line, `name{label="value",…} value [timestamp]`. Lines are found by searching for the
wanted names, so what is not wanted is never split or decoded. A malformed line is skipped and
counted. On the scrape path; measured by tests/core/test_prometheus_text.py.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MAX_SAMPLES = 256
"""Of one family; an engine has a handful, and a hostile one cannot make us hold more."""

_LABEL = re.compile(
    rb'[ \t]*([a-zA-Z_:][a-zA-Z0-9_:.]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(,|(?=\}))'
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_AFTER_NAME = frozenset(b"{ \t")


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Mapping[str, str]
    value: float
    timestamp: float | None = None
    """As written; its unit differs between the formats, so it only orders samples."""


@dataclass(slots=True)
class Exposition:
    samples: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])
    """By sample name; a name that was not found is absent."""
    malformed: int = 0
    """Lines of wanted names that could not be read."""


def read_samples(body: bytes, wanted: Iterable[str]) -> Exposition:
    """Read the samples whose name is one of `wanted`."""
    exposition = Exposition()
    for name in wanted:
        found = _samples_of(body, name.encode(), exposition)
        if found:
            exposition.samples[name] = found
    return exposition


def _samples_of(body: bytes, name: bytes, exposition: Exposition) -> list[Sample]:
    found: list[Sample] = []
    at = 0 if body.startswith(name) else _next_line(body, name, 0)
    while at >= 0 and len(found) < MAX_SAMPLES:
        end = body.find(b"\n", at)
        if end < 0:
            end = len(body)
        after = at + len(name)
        if after < end and body[after] in _AFTER_NAME:
            sample = _read_line(body[after:end])
            if sample is None:
                exposition.malformed += 1
            else:
                found.append(sample)
        at = _next_line(body, name, end)
    return found


def _next_line(body: bytes, name: bytes, start: int) -> int:
    at = body.find(b"\n" + name, start)
    return at + 1 if at >= 0 else -1


def _read_line(rest: bytes) -> Sample | None:
    """Read what follows the name, `None` where it is malformed."""
    labels: dict[str, str] = {}
    rest = rest.lstrip()
    if rest.startswith(b"{"):
        at = 1
        while rest[at : at + 1] != b"}":
            match = _LABEL.match(rest, at)
            if match is None:
                return None
            labels[match[1].decode()] = _unescaped(match[2])
            at = match.end()
        rest = rest[at + 1 :]
    parts = rest.split(b"#", 1)[0].split()
    try:
        value = float(parts[0])
        timestamp = float(parts[1]) if len(parts) > 1 else None
    except (IndexError, ValueError):
        return None
    return Sample(labels, value, timestamp)


def _unescaped(raw: bytes) -> str:
    text = raw.decode(errors="replace")
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], text)
