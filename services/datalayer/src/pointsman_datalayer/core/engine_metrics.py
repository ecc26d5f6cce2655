"""An engine's exposition in our fields, by the engine's mapping.

Several engine cores behind one port (data parallelism within the server) are one endpoint: what
waits and runs is added up, and the KV cache's use is their mean.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pointsman_common.endpoint import EndpointMetrics
from pointsman_datalayer.core.engine_mappings import PROCESS_START, CacheInfo, EngineMapping
from pointsman_datalayer.core.metric_spec import MetricSpec
from pointsman_datalayer.core.prometheus_text import Exposition, ExpositionReader, Sample

_NO_ATTRIBUTES: Mapping[str, MetricSpec] = {}


@dataclass(frozen=True, slots=True)
class Extraction:
    """What an exposition says in our fields."""

    metrics: EndpointMetrics
    missing: tuple[str, ...]
    """Fields of queue, running and KV cache that it lacks or states senselessly."""
    started_at: float | None = None
    """`process_start_time_seconds`, seconds since 1970."""
    counters: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def usable(self) -> bool:
        """Whether any field of the mapping was there."""
        metrics = self.metrics
        return (
            metrics.waiting_requests is not None
            or metrics.running_requests is not None
            or metrics.kv_cache_utilization is not None
        )


class EngineReader:
    """Reads the expositions of one kind of engine."""

    def __init__(self, mapping: EngineMapping) -> None:
        self.mapping = mapping
        self._reader = ExpositionReader(mapping.wanted())

    def read(self, body: bytes, now: float) -> Extraction:
        """`now` is when the body was read, in monotonic seconds."""
        return extract(self.mapping, self._reader.read(body), now)


def extract(mapping: EngineMapping, exposition: Exposition, now: float) -> Extraction:
    """Put an exposition in our fields; `now` is when it was read, in monotonic seconds.

    What is missing is unknown (`None`), whatever it was before.
    """
    core = mapping.core_label
    waiting = _readings(mapping.waiting, exposition, core, _count)
    running = _readings(mapping.running, exposition, core, _count)
    kv_cache = _readings(mapping.kv_cache, exposition, core, _ratio)
    missing = [
        name
        for name, spec, values in (
            ("waiting_requests", mapping.waiting, waiting),
            ("running_requests", mapping.running, running),
            ("kv_cache_utilization", mapping.kv_cache, kv_cache),
        )
        if spec is not None and values is None
    ]
    lora = _newest_lora(mapping.lora, exposition)
    block_size, blocks = _cache(mapping.cache, exposition, core)
    start = exposition.samples.get(PROCESS_START)
    return Extraction(
        EndpointMetrics(
            waiting_requests=None if waiting is None else _at_most_32_bits(sum(waiting)),
            running_requests=None if running is None else _at_most_32_bits(sum(running)),
            kv_cache_utilization=None if kv_cache is None else sum(kv_cache) / len(kv_cache),
            active_loras=_names(lora, "running_lora_adapters"),
            waiting_loras=_names(lora, "waiting_lora_adapters"),
            max_loras=_label_count(lora, "max_lora"),
            block_size_tokens=block_size,
            kv_cache_blocks=blocks,
            read_at=now,
            attributes=_attributes(mapping, exposition),
        ),
        tuple(missing),
        started_at=start[0].value if start else None,
        counters={
            name: sum(sample.value for sample in exposition.samples[name])
            for name in mapping.counters
            if name in exposition.samples
        },
    )


def _readings(
    spec: MetricSpec | None,
    exposition: Exposition,
    core_label: str,
    sense: Callable[[float], float | None],
) -> list[float] | None:
    """A value for each engine core; `None` where there is none, or one that makes no sense."""
    samples = spec.of_each_core(exposition, core_label) if spec is not None else ()
    values = [value for sample in samples if (value := sense(sample.value)) is not None]
    return values if values and len(values) == len(samples) else None


def _count(value: float) -> float | None:
    """A count that fits the contract's 32 bits; NaN, infinite and negative make no sense."""
    return value if 0 <= value < 2**32 else None


def _at_most_32_bits(value: float) -> int:
    return min(int(value), 2**32 - 1)


def _ratio(value: float) -> float | None:
    """0 to 1; engines overshoot a little."""
    return min(value, 1.0) if 0 <= value < 1.5 else None


def _newest_lora(spec: MetricSpec | None, exposition: Exposition) -> Sample | None:
    """The series with the largest value, which is the time of the last change."""
    samples: Iterable[Sample] = spec.matching(exposition) if spec else ()
    known = [sample for sample in samples if not math.isnan(sample.value)]
    return max(known, key=lambda sample: sample.value, default=None)


def _names(sample: Sample | None, label: str) -> frozenset[str]:
    listed = sample.labels.get(label, "") if sample else ""
    return frozenset(name.strip() for name in listed.split(",") if name.strip())


def _label_count(sample: Sample | None, label: str) -> int | None:
    text = sample.labels.get(label, "") if sample else ""
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        return None
    return int(text) if int(text) < 2**32 else None


def _cache(
    info: CacheInfo | None, exposition: Exposition, core_label: str
) -> tuple[int | None, int | None]:
    """Tokens in a block, and blocks of all engine cores together."""
    if info is None:
        return None, None
    if info.info is not None:
        samples = info.info.of_each_core(exposition, core_label)
        sizes = [_label_count(sample, info.block_size_label) for sample in samples]
        counts = [_label_count(sample, info.blocks_label) for sample in samples]
        if samples:
            return sizes[0], _total(counts)
    size = info.block_size.value(exposition) if info.block_size else None
    blocks = _readings(info.blocks, exposition, core_label, _count)
    return (
        None if size is None or _count(size) is None else int(size),
        None if blocks is None else _total([int(count) for count in blocks]),
    )


def _total(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return _at_most_32_bits(sum(known)) if known and len(known) == len(counts) else None


def _attributes(mapping: EngineMapping, exposition: Exposition) -> Mapping[str, float]:
    named = mapping.attributes or _NO_ATTRIBUTES
    values = {name: spec.value(exposition) for name, spec in named.items()}
    return {name: value for name, value in values.items() if value is not None}
