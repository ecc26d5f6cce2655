"""Which of our fields each engine states under which metric name.

Source of the names: the model server protocol (gateway-api-inference-extension proposal 003),
llm-d-router pkg/epp/framework/plugins/datalayer/extractor/metrics, and the engines' documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pointsman_datalayer.core.metric_spec import MetricSpec

ENGINE_LABELS = ("llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type")
DEFAULT_ENGINE = "vllm"
PROCESS_START = "process_start_time_seconds"


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """Where the KV cache's block size and number stand: labels of one sample, else two gauges."""

    info: MetricSpec | None = None
    block_size_label: str = "block_size"
    blocks_label: str = "num_gpu_blocks"
    block_size: MetricSpec | None = None
    blocks: MetricSpec | None = None


@dataclass(frozen=True, slots=True)
class EngineMapping:
    waiting: MetricSpec
    running: MetricSpec
    kv_cache: MetricSpec | None = None
    lora: MetricSpec | None = None
    cache: CacheInfo | None = None
    attributes: Mapping[str, MetricSpec] | None = None
    """Further scalars, by the name under which the scheduler sees them."""
    counters: tuple[str, ...] = ()
    """Counters that only a restart sets back."""
    core_label: str = ""
    """Tells the engine cores behind one port apart (data parallelism within the server)."""
    path: str = ""
    """Where the engine has its metrics, when not where the settings say."""

    def wanted(self) -> tuple[str, ...]:
        """Sample names to read from the exposition."""
        specs = [self.waiting, self.running, self.kv_cache, self.lora]
        if self.cache is not None:
            specs += [self.cache.info, self.cache.block_size, self.cache.blocks]
        specs += (self.attributes or {}).values()
        names = [spec.name for spec in specs if spec is not None]
        return tuple(dict.fromkeys([*names, *self.counters, PROCESS_START]))


_spec = MetricSpec.parse

ENGINES: Mapping[str, EngineMapping] = {
    "vllm": EngineMapping(
        waiting=_spec("vllm:num_requests_waiting"),
        running=_spec("vllm:num_requests_running"),
        kv_cache=_spec("vllm:kv_cache_usage_perc"),
        lora=_spec("vllm:lora_requests_info"),
        cache=CacheInfo(_spec("vllm:cache_config_info")),
        counters=("vllm:prompt_tokens_total", "vllm:generation_tokens_total"),
        core_label="engine",
    ),
    "sglang": EngineMapping(
        waiting=_spec("sglang:num_queue_reqs"),
        running=_spec("sglang:num_running_reqs"),
        kv_cache=_spec("sglang:token_usage"),
        cache=CacheInfo(
            _spec("sglang:cache_config_info"),
            block_size_label="page_size",
            blocks_label="num_pages",
            block_size=_spec("sglang:page_size"),
            blocks=_spec("sglang:num_pages"),
        ),
        counters=("sglang:prompt_tokens_total", "sglang:generation_tokens_total"),
        core_label="dp_rank",
    ),
    "trtllm-serve": EngineMapping(
        waiting=_spec("trtllm_num_requests_waiting"),
        running=_spec("trtllm_num_requests_running"),
        kv_cache=_spec("trtllm_kv_cache_utilization"),
        cache=CacheInfo(
            block_size=_spec("trtllm_kv_cache_tokens_per_block"),
            blocks=_spec("trtllm_kv_cache_max_blocks"),
        ),
        counters=("trtllm_request_success_total",),
        path="/prometheus/metrics",
    ),
    "triton-tensorrt-llm": EngineMapping(
        waiting=_spec("nv_trt_llm_request_metrics{request_type=waiting}"),
        running=_spec("nv_trt_llm_request_metrics{request_type=scheduled}"),
        kv_cache=_spec("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"),
        cache=CacheInfo(
            block_size=_spec("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}"),
            blocks=_spec("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}"),
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
