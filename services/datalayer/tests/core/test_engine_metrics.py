"""Each engine's names in our fields. The expositions are written anew after the engines' shapes."""

import pytest

from pointsman_datalayer.core.engine_metrics import (
    ENGINES,
    Extraction,
    MetricSpec,
    engine_of,
    extract,
    mapping_of,
)
from pointsman_datalayer.core.prometheus_text import read_samples

VLLM = """\
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.7e+09
vllm:num_requests_running{engine="0",model_name="llama"} 4.0
vllm:num_requests_waiting{engine="0",model_name="llama"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="llama",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 0.25
vllm:prompt_tokens_total{engine="0",model_name="llama"} 1000.0
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="2048"} 1.0
vllm:lora_requests_info{max_lora="2",running_lora_adapters="old",waiting_lora_adapters=""} 1.0
vllm:lora_requests_info{max_lora="2",running_lora_adapters="a, b",waiting_lora_adapters="c"} 5.0
"""
SGLANG = """\
sglang:num_queue_reqs{model_name="llama"} 3
sglang:num_running_reqs{model_name="llama"} 5
sglang:token_usage{model_name="llama"} 0.5
sglang:cache_config_info{page_size="32",num_pages="100"} 1
"""
TRTLLM_SERVE = """\
trtllm_num_requests_waiting 3
trtllm_num_requests_running 5
trtllm_kv_cache_utilization 0.5
trtllm_kv_cache_tokens_per_block 32
trtllm_kv_cache_max_blocks 100
"""
TRITON_TRTLLM = """\
nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 3
nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 5
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m"} 0.5
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m"} 32
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m"} 100
"""


def read(engine: str, text: str) -> Extraction:
    mapping = mapping_of(engine)
    return extract(mapping, read_samples(text.encode(), mapping.wanted()), 7.0)


def test_vllm_in_full() -> None:
    found = read("vllm", VLLM)
    metrics = found.metrics
    assert (metrics.waiting_requests, metrics.running_requests) == (2, 4)
    assert (metrics.kv_cache_utilization, metrics.read_at) == (0.25, 7.0)
    assert (metrics.block_size_tokens, metrics.kv_cache_blocks) == (16, 2048)
    assert metrics.active_loras == {"a", "b"}
    assert metrics.waiting_loras == {"c"}
    assert metrics.max_loras == 2
    assert (found.missing, found.started_at) == ((), 1.7e9)
    assert found.counters == {"vllm:prompt_tokens_total": 1000.0}


@pytest.mark.parametrize(
    ("engine", "text"),
    [("sglang", SGLANG), ("trtllm-serve", TRTLLM_SERVE), ("triton-tensorrt-llm", TRITON_TRTLLM)],
)
def test_other_engines(engine: str, text: str) -> None:
    metrics = read(engine, text).metrics
    assert (metrics.waiting_requests, metrics.running_requests) == (3, 5)
    assert metrics.kv_cache_utilization == 0.5
    assert (metrics.block_size_tokens, metrics.kv_cache_blocks) == (32, 100)
    assert not read(engine, text).missing


def test_classic_triton_has_no_kv_cache_to_miss() -> None:
    text = "nv_inference_pending_request_count 3\nnv_inference_exec_count 5\n"
    found = read("triton", text)
    assert (found.metrics.waiting_requests, found.metrics.running_requests) == (3, 5)
    assert (found.metrics.kv_cache_utilization, found.missing) == (None, ())


def test_a_missing_family_is_unknown_and_the_rest_is_read() -> None:
    found = read("vllm", VLLM.replace("vllm:num_requests_waiting{", "vllm:gone{"))
    assert found.missing == ("waiting_requests",)
    assert found.metrics.waiting_requests is None
    assert found.metrics.kv_cache_utilization == 0.25


def test_missing_lora_and_cache_information_is_no_error() -> None:
    kept = [line for line in VLLM.splitlines() if "lora" not in line and "config" not in line]
    found = read("vllm", "\n".join(kept))
    assert (found.missing, found.metrics.max_loras) == ((), None)
    assert found.metrics.block_size_tokens is None


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf", "1e300"])
def test_a_senseless_value_is_unknown(value: str) -> None:
    found = read(
        "vllm",
        VLLM.replace(
            'waiting{engine="0",model_name="llama"} 2.0', f'waiting{{engine="0"}} {value}'
        ),
    )
    assert found.missing == ("waiting_requests",)


def test_none_of_the_metrics_is_not_usable() -> None:
    assert not read("vllm", "other 1\n").usable


def test_the_series_with_the_latest_timestamp_counts_and_the_first_of_equals() -> None:
    text = "vllm:num_requests_waiting 1 10\nvllm:num_requests_waiting 2 20\n"
    assert read("vllm", text).metrics.waiting_requests == 2
    text = 'vllm:num_requests_waiting{engine="0"} 1\nvllm:num_requests_waiting{engine="1"} 2\n'
    assert read("vllm", text).metrics.waiting_requests == 1


def test_the_engine_is_named_by_a_label_or_is_vllm() -> None:
    assert engine_of({"llm-d.ai/engine-type": "sglang"}) == "sglang"
    assert engine_of({"inference.networking.k8s.io/engine-type": "triton"}) == "triton"
    assert engine_of({}) == "vllm"
    assert mapping_of("never-heard-of") is ENGINES["vllm"]


def test_a_metric_spec_takes_labels_with_and_without_quotes() -> None:
    assert MetricSpec.parse('a:b{l=v, m="w"}') == MetricSpec("a:b", {"l": "v", "m": "w"})
    for wrong in ("", "a b", "a{l}", "9a"):
        with pytest.raises(ValueError, match="is not"):
            MetricSpec.parse(wrong)
