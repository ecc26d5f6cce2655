"""Each engine's metric names, and what they mean in our fields.

Source of the names: the model server protocol (gateway-api-inference-extension proposal 003) and
llm-d-router pkg/epp/framework/plugins/datalayer/extractor/metrics.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pointsman_common.endpoint import EndpointMetrics
from pointsman_datalayer.core.prometheus_text import Exposition, Sample

ENGINE_LABELS = ("llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type")
DEFAULT_ENGINE = "vllm"
PROCESS_START = "process_start_time_seconds"

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

    def choose(self, exposition: Exposition) -> Sample | None:
        """The matching sample with the largest timestamp, the first of equals."""
        best: Sample | None = None
        for sample in exposition.samples.get(self.name, ()):
            if any(sample.labels.get(key) != value for key, value in self.labels.items()):
                continue
            if best is None or (sample.timestamp or 0.0) > (best.timestamp or 0.0):
                best = sample
        return best


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """Where the KV cache's block size and number stand: labels of one sample, or two gauges."""

    block_size: MetricSpec
    blocks: MetricSpec
    block_size_label: str = ""
    blocks_label: str = ""


@dataclass(frozen=True, slots=True)
class EngineMapping:
    waiting: MetricSpec
    running: MetricSpec
    kv_cache: MetricSpec | None = None
    lora: MetricSpec | None = None
    cache: CacheInfo | None = None
    counters: tuple[str, ...] = ()
    """Counters that only a restart sets back."""

    def wanted(self) -> tuple[str, ...]:
        """Sample names to read from the exposition."""
        specs = [self.waiting, self.running, self.kv_cache, self.lora]
        if self.cache is not None:
            specs += [self.cache.block_size, self.cache.blocks]
        names = [spec.name for spec in specs if spec is not None]
        return tuple(dict.fromkeys([*names, *self.counters, PROCESS_START]))


def _spec(text: str) -> MetricSpec:
    return MetricSpec.parse(text)


ENGINES: Mapping[str, EngineMapping] = {
    "vllm": EngineMapping(
        waiting=_spec("vllm:num_requests_waiting"),
        running=_spec("vllm:num_requests_running"),
        kv_cache=_spec("vllm:kv_cache_usage_perc"),
        lora=_spec("vllm:lora_requests_info"),
        cache=CacheInfo(
            _spec("vllm:cache_config_info"),
            _spec("vllm:cache_config_info"),
            block_size_label="block_size",
            blocks_label="num_gpu_blocks",
        ),
        counters=("vllm:prompt_tokens_total", "vllm:generation_tokens_total"),
    ),
    "sglang": EngineMapping(
        waiting=_spec("sglang:num_queue_reqs"),
        running=_spec("sglang:num_running_reqs"),
        kv_cache=_spec("sglang:token_usage"),
        cache=CacheInfo(
            _spec("sglang:cache_config_info"),
            _spec("sglang:cache_config_info"),
            block_size_label="page_size",
            blocks_label="num_pages",
        ),
        counters=("sglang:prompt_tokens_total", "sglang:generation_tokens_total"),
    ),
    "trtllm-serve": EngineMapping(
        waiting=_spec("trtllm_num_requests_waiting"),
        running=_spec("trtllm_num_requests_running"),
        kv_cache=_spec("trtllm_kv_cache_utilization"),
        cache=CacheInfo(
            _spec("trtllm_kv_cache_tokens_per_block"), _spec("trtllm_kv_cache_max_blocks")
        ),
        counters=("trtllm_request_success_total",),
    ),
    "triton-tensorrt-llm": EngineMapping(
        waiting=_spec("nv_trt_llm_request_metrics{request_type=waiting}"),
        running=_spec("nv_trt_llm_request_metrics{request_type=scheduled}"),
        kv_cache=_spec("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"),
        cache=CacheInfo(
            _spec("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}"),
            _spec("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}"),
        ),
        counters=("nv_inference_request_success",),
    ),
    "triton": EngineMapping(
        waiting=_spec("nv_inference_pending_request_count"),
        running=_spec("nv_inference_exec_count"),
        counters=("nv_inference_request_success",),
    ),
}


def engine_of(labels: Mapping[str, str]) -> str:
    """The engine that an endpoint's labels name; vllm where they name none."""
    return next((labels[key] for key in ENGINE_LABELS if labels.get(key)), DEFAULT_ENGINE)


def mapping_of(engine: str) -> EngineMapping:
    """The mapping of an engine; an unknown one is read as the default."""
    return ENGINES.get(engine, ENGINES[DEFAULT_ENGINE])


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


def extract(mapping: EngineMapping, exposition: Exposition, now: float) -> Extraction:
    """Put an exposition in our fields; `now` is when it was read, in monotonic seconds.

    What is missing is unknown (`None`), whatever it was before.
    """
    waiting = _reading(mapping.waiting, exposition, _count)
    running = _reading(mapping.running, exposition, _count)
    kv_cache = _reading(mapping.kv_cache, exposition, _ratio)
    missing = [
        name
        for name, spec, value in (
            ("waiting_requests", mapping.waiting, waiting),
            ("running_requests", mapping.running, running),
            ("kv_cache_utilization", mapping.kv_cache, kv_cache),
        )
        if spec is not None and value is None
    ]
    lora = _newest_lora(mapping.lora, exposition)
    block_size, blocks = _cache(mapping.cache, exposition)
    start = exposition.samples.get(PROCESS_START)
    return Extraction(
        EndpointMetrics(
            waiting_requests=None if waiting is None else int(waiting),
            running_requests=None if running is None else int(running),
            kv_cache_utilization=kv_cache,
            active_loras=_names(lora, "running_lora_adapters"),
            waiting_loras=_names(lora, "waiting_lora_adapters"),
            max_loras=_label_count(lora, "max_lora"),
            block_size_tokens=block_size,
            kv_cache_blocks=blocks,
            read_at=now,
        ),
        tuple(missing),
        started_at=start[0].value if start else None,
        counters={
            name: sum(sample.value for sample in exposition.samples[name])
            for name in mapping.counters
            if name in exposition.samples
        },
    )


def _reading(
    spec: MetricSpec | None, exposition: Exposition, sense: Callable[[float], float | None]
) -> float | None:
    sample = spec.choose(exposition) if spec is not None else None
    return None if sample is None else sense(sample.value)


def _count(value: float) -> float | None:
    """A count that fits the contract's 32 bits; NaN, infinite and negative make no sense."""
    return value if 0 <= value < 2**32 else None


def _ratio(value: float) -> float | None:
    """0 to 1; engines overshoot a little."""
    return min(value, 1.0) if 0 <= value < 1.5 else None


def _newest_lora(spec: MetricSpec | None, exposition: Exposition) -> Sample | None:
    """The series with the largest value, which is the time of the last change."""
    samples: Iterable[Sample] = exposition.samples.get(spec.name, ()) if spec else ()
    known = [sample for sample in samples if not math.isnan(sample.value)]
    return max(known, key=lambda sample: sample.value, default=None)


def _names(sample: Sample | None, label: str) -> frozenset[str]:
    listed = sample.labels.get(label, "") if sample else ""
    return frozenset(name.strip() for name in listed.split(",") if name.strip())


def _label_count(sample: Sample | None, label: str) -> int | None:
    text = sample.labels.get(label, "") if sample else ""
    return int(text) if text.isascii() and text.isdecimal() and int(text) < 2**32 else None


def _cache(info: CacheInfo | None, exposition: Exposition) -> tuple[int | None, int | None]:
    if info is None:
        return None, None
    size, blocks = info.block_size.choose(exposition), info.blocks.choose(exposition)
    if info.block_size_label:
        return _label_count(size, info.block_size_label), _label_count(blocks, info.blocks_label)
    return (
        None if size is None or _count(size.value) is None else int(size.value),
        None if blocks is None or _count(blocks.value) is None else int(blocks.value),
    )
