"""The /metrics text: families, labels and numbers of vLLM 0.32."""

import msgspec
import pytest

from pointsman_simulator.adapters.engine_metrics import EngineMetrics, MetricsOverride
from pointsman_simulator.core.engine import Engine
from pointsman_simulator.core.engine_events import EngineStats, Finished, FirstToken
from pointsman_simulator.core.engine_profile import H100_8B

NOW = 1795514600.5
IDLE = Engine(H100_8B).stats(0.0)


def metrics() -> EngineMetrics:
    return EngineMetrics("llama", H100_8B, created_at=1795514565.3123734)


def render(source: EngineMetrics, stats: EngineStats = IDLE, now: float = NOW) -> list[str]:
    return source.render(stats, now).splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "# HELP vllm:num_requests_running Number of requests in model execution batches.",
        "# TYPE vllm:num_requests_running gauge",
        'vllm:num_requests_running{engine="0",model_name="llama"} 0.0',
        'vllm:num_requests_waiting_by_reason{engine="0",model_name="llama",reason="deferred"} 0.0',
        'vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 0.0',
        "# TYPE vllm:prefix_cache_queries_total counter",
        'vllm:prefix_cache_queries_total{engine="0",model_name="llama"} 0.0',
        "# TYPE vllm:prefix_cache_queries_created gauge",
        'vllm:prefix_cache_queries_created{engine="0",model_name="llama"} 1.7955145653123734e+09',
        'vllm:request_success_total{engine="0",finished_reason="stop",model_name="llama"} 0.0',
        "# TYPE vllm:time_to_first_token_seconds histogram",
        'vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="llama"} 0.0',
        'vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="llama"} 0.0',
        'vllm:time_to_first_token_seconds_count{engine="0",model_name="llama"} 0.0',
        'vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""}'
        " 1.7955146005e+09",
    ],
)
def test_lines_are_written_as_vllm_does(line: str) -> None:
    assert line in render(metrics())


def test_gauges_and_counters_are_the_engines() -> None:
    stats = msgspec.structs.replace(
        IDLE,
        running=3,
        waiting=5,
        waiting_deferred=2,
        kv_usage=0.25,
        generation_tokens=70,
        running_loras=("a", "b"),
        waiting_loras=("c",),
    )
    lines = render(metrics(), stats)
    labels = '{engine="0",model_name="llama"}'
    assert f"vllm:num_requests_running{labels} 3.0" in lines
    assert f"vllm:num_requests_waiting{labels} 5.0" in lines
    by_reason = 'vllm:num_requests_waiting_by_reason{engine="0",model_name="llama",reason='
    assert by_reason + '"capacity"} 3.0' in lines
    assert by_reason + '"deferred"} 2.0' in lines
    assert f"vllm:kv_cache_usage_perc{labels} 0.25" in lines
    assert f"vllm:generation_tokens_total{labels} 70.0" in lines
    [lora] = [line for line in lines if line.startswith("vllm:lora_requests_info")]
    assert 'running_lora_adapters="a,b",waiting_lora_adapters="c"' in lora


def test_events_fill_the_histograms() -> None:
    source = metrics()
    source.observe_first_token(FirstToken("a", 10.03, 10.0, 0))
    finished = Finished(
        request_id="a",
        at=12.03,
        arrived_at=10.0,
        admitted_at=10.01,
        first_token_at=10.03,
        prompt_tokens=100,
        cached_tokens=0,
        output_tokens=11,
        preemptions=0,
    )
    source.observe_finished(finished, "length")
    source.count_abort()
    lines = render(source)
    assert (
        'vllm:time_to_first_token_seconds_bucket{engine="0",le="0.04",model_name="llama"} 1.0'
        in lines
    )
    assert 'vllm:inter_token_latency_seconds_count{engine="0",model_name="llama"} 10.0' in lines
    assert 'vllm:request_prompt_tokens_sum{engine="0",model_name="llama"} 100.0' in lines
    for reason in ("length", "abort"):
        labels = f'{{engine="0",finished_reason="{reason}",model_name="llama"}}'
        assert f"vllm:request_success_total{labels} 1.0" in lines


def test_old_adapter_series_stay_for_a_while_and_the_newest_has_the_largest_value() -> None:
    source = metrics()
    for index in range(12):
        stats = msgspec.structs.replace(IDLE, running_loras=(f"lora-{index}",))
        lines = render(source, stats, now=NOW + index)
    series = [line for line in lines if line.startswith("vllm:lora_requests_info")]
    assert len(series) == 8
    newest = max(series, key=lambda line: float(line.rpartition(" ")[2]))
    assert 'running_lora_adapters="lora-11"' in newest


def test_overrides_are_reported_instead() -> None:
    source = metrics()
    source.override = MetricsOverride(waiting=50, kv=0.9)
    lines = render(source, msgspec.structs.replace(IDLE, running=1, waiting_deferred=1))
    labels = '{engine="0",model_name="llama"}'
    assert f"vllm:num_requests_running{labels} 1.0" in lines
    assert f"vllm:num_requests_waiting{labels} 50.0" in lines
    assert f"vllm:kv_cache_usage_perc{labels} 0.9" in lines


def test_the_cache_configuration_has_block_size_and_count() -> None:
    [line] = [line for line in render(metrics()) if line.startswith("vllm:cache_config_info{")]
    assert ',block_size="16",' in line
    assert ',num_gpu_blocks="25625",' in line
    assert line.endswith(" 1.0")
