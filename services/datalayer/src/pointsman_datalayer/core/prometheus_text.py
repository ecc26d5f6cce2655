"""Reads a few wanted families from an exposition of a hundred kilobytes, and skips the rest.

The text format of Prometheus (exposition format 0.0.4) and OpenMetrics, as far as they agree: one
sample a line, `name{label="value",…} value [timestamp]`, the samples of a family together under its
`# TYPE`. Lines are found by searching for the wanted names, so what is not wanted is never split or
decoded; a family is searched for up to the next `# TYPE`. A malformed line is skipped and counted;
nothing makes it raise. On the scrape path; measured by tests/load/bench_scrape.py.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MAX_SAMPLES = 256
"""Of one name; an engine has a handful, and a hostile one cannot make us hold more."""

MAX_LINES = 4096
"""Lines that begin with one wanted name, longer names among them; the rest is not looked at."""

MAX_KNOWN_LABELS = 1024
MAX_KNOWN_BYTES = 4096
"""Label sets that are remembered, and the length of one that is worth it."""

Labels = Mapping[str, str]

_LABEL = re.compile(
    rb'[ \t]*([a-zA-Z_:][a-zA-Z0-9_:.]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(,|(?=\}))'
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_AFTER_NAME = frozenset((b"{", b" ", b"\t"))
_NEXT_FAMILY = b"\n# TYPE "
_NO_LABELS: Labels = {}


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Labels
    value: float
    timestamp: float | None = None
    """As written; its unit differs between the formats, so it only orders samples."""


@dataclass(slots=True)
class Exposition:
    samples: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])
    """By sample name; a name that was not found is absent."""
    malformed: int = 0
    """Lines of wanted names that could not be read."""


class ExpositionReader:
    """Reads the samples whose name is one of `wanted`.

    Labels are the same from one scrape to the next, so those that were read are remembered.
    """

    def __init__(self, wanted: Iterable[str]) -> None:
        self._wanted = [(name, name.encode(), b"\n" + name.encode()) for name in wanted]
        self._known: dict[bytes, Labels] = {}

    def read(self, body: bytes) -> Exposition:
        exposition = Exposition()
        for name, raw, at_line_start in self._wanted:
            found = self._samples(body, raw, at_line_start, exposition)
            if found:
                exposition.samples[name] = found
        return exposition

    def _samples(
        self, body: bytes, name: bytes, at_line_start: bytes, exposition: Exposition
    ) -> list[Sample]:
        found: list[Sample] = []
        stop, lines, in_family = len(body), 0, False
        at = 0 if body.startswith(name) else body.find(at_line_start) + 1 or -1
        while at >= 0 and lines < MAX_LINES and len(found) < MAX_SAMPLES:
            lines += 1
            after = at + len(name)
            end = body.find(b"\n", after)
            if end < 0:
                end = len(body)
            if body[after : after + 1] in _AFTER_NAME:
                if not in_family:
                    in_family = True
                    following = body.find(_NEXT_FAMILY, after)
                    stop = following if following >= 0 else stop
                sample = self._line(body[after:end])
                if sample is None:
                    exposition.malformed += 1
                else:
                    found.append(sample)
            at = body.find(at_line_start, end, stop) + 1 or -1
        return found

    def _line(self, rest: bytes) -> Sample | None:
        """Read what follows the name, `None` where it is malformed."""
        labels = _NO_LABELS
        rest = rest.lstrip()
        if rest.startswith(b"{"):
            block = rest[: rest.rfind(b"}") + 1]
            known = self._known.get(block)
            if known is not None:
                labels, rest = known, rest[len(block) :]
            else:
                read = _labels(rest)
                if read is None:
                    return None
                labels, length = read
                if length == len(block):  # no exemplar, whose labels differ each time
                    self._remember(block, labels)
                rest = rest[length:]
        parts = rest.split(b"#", 1)[0].split()
        try:
            value = float(parts[0])
            timestamp = float(parts[1]) if len(parts) > 1 else None
        except (IndexError, ValueError):
            return None
        return Sample(labels, value, timestamp)

    def _remember(self, block: bytes, labels: Labels) -> None:
        if len(block) <= MAX_KNOWN_BYTES:
            if len(self._known) >= MAX_KNOWN_LABELS:
                self._known.clear()
            self._known[block] = labels


def _labels(rest: bytes) -> tuple[Labels, int] | None:
    """The labels at the start of `rest`, and their length with the braces."""
    labels: dict[str, str] = {}
    at = 1
    while rest[at : at + 1] != b"}":
        match = _LABEL.match(rest, at)
        if match is None:
            blank = rest[at:].lstrip(b" \t")  # as in `{ }` and `{a="b", }`
            if not blank.startswith(b"}"):
                return None
            at = len(rest) - len(blank)
            break
        labels[match[1].decode()] = _unescaped(match[2])
        at = match.end()
    return labels, at + 1


def _unescaped(raw: bytes) -> str:
    text = raw.decode(errors="replace")
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], text)
