"""A metric as a configuration names it, and the samples of an exposition that it stands for."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pointsman_datalayer.core.prometheus_text import Exposition, Sample

_SPEC = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{(.*)\})?$")


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A sample name and the labels that it must have."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def parse(cls, text: str) -> "MetricSpec":
        """Read `name`, `name{label=value}` or `name{label="value",other=…}`.

        Raises:
            ValueError: another form.
        """
        match = _SPEC.match(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not name or name{{label=value}}")
        labels: dict[str, str] = {}
        for pair in filter(None, (part.strip() for part in (match[2] or "").split(","))):
            key, equals, value = pair.partition("=")
            if not equals:
                raise ValueError(f"{text!r}: {pair!r} is not label=value")
            labels[key.strip()] = value.strip().strip('"')
        return cls(match[1], labels)

    def matching(self, exposition: Exposition) -> list[Sample]:
        samples = exposition.samples.get(self.name, [])
        if not self.labels:
            return samples
        wanted = self.labels.items()
        return [
            sample
            for sample in samples
            if all(sample.labels.get(key) == value for key, value in wanted)
        ]

    def choose(self, exposition: Exposition) -> Sample | None:
        """The matching sample with the largest timestamp, the first of equals."""
        return latest(self.matching(exposition))

    def of_each_core(self, exposition: Exposition, core_label: str) -> list[Sample]:
        """One sample for each value of a label that tells engine cores behind one port apart.

        Where no sample has the label there is one core.
        """
        samples = self.matching(exposition)
        if len(samples) < 2 or not core_label:
            best = latest(samples)
            return [] if best is None else [best]
        cores: dict[str, list[Sample]] = {}
        for sample in samples:
            cores.setdefault(sample.labels.get(core_label, ""), []).append(sample)
        chosen = (latest(of_core) for of_core in cores.values())
        return [sample for sample in chosen if sample is not None]

    def value(self, exposition: Exposition) -> float | None:
        """A finite number, or `None`."""
        sample = self.choose(exposition)
        return sample.value if sample is not None and math.isfinite(sample.value) else None


def latest(samples: list[Sample]) -> Sample | None:
    """The sample with the largest timestamp, the first of equals."""
    if len(samples) == 1:
        return samples[0]
    return max(samples, key=lambda sample: sample.timestamp or 0.0, default=None)
