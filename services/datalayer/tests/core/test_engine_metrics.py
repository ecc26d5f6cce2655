"""Each engine's metrics page in our fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.engine_pages import (
    SGLANG,
    SGLANG_OLDER,
    TRITON,
    TRITON_TRTLLM,
    TRTLLM_SERVE,
    VLLM,
    VLLM_TWO_CORES,
)

from pointsman_datalayer.core.engine_mappings import ENGINES, engine_of
from pointsman_datalayer.core.engine_metrics import EngineReader, Extraction
from pointsman_datalayer.core.metric_spec import MetricSpec


def read(engine: str, text: str) -> Extraction:
    return EngineReader(ENGINES[engine]).read(text.encode(), 7.0)


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
    [
        ("sglang", SGLANG),
        ("sglang", SGLANG_OLDER),
        ("trtllm-serve", TRTLLM_SERVE),
        ("triton-tensorrt-llm", TRITON_TRTLLM),
    ],
)
def test_other_engines(engine: str, text: str) -> None:
    metrics = read(engine, text).metrics
    assert (metrics.waiting_requests, metrics.running_requests) == (3, 5)
    assert metrics.kv_cache_utilization == 0.5
    assert (metrics.block_size_tokens, metrics.kv_cache_blocks) == (32, 100)
    assert not read(engine, text).missing


def test_classic_triton_has_no_kv_cache_to_miss() -> None:
    found = read("triton", TRITON)
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
    text = (
        'vllm:num_requests_waiting{model_name="a"} 1\nvllm:num_requests_waiting{model_name="b"} 2\n'
    )
    assert read("vllm", text).metrics.waiting_requests == 1


def test_engine_cores_behind_one_port_are_added_up() -> None:
    found = read("vllm", VLLM_TWO_CORES)
    metrics = found.metrics
    assert (metrics.waiting_requests, metrics.running_requests) == (4, 8)
    assert metrics.kv_cache_utilization == 0.5
    assert (metrics.block_size_tokens, metrics.kv_cache_blocks) == (16, 4096)
    assert found.counters["vllm:prompt_tokens_total"] == 2000.0


def test_a_core_that_states_nonsense_makes_the_sum_unknown() -> None:
    text = VLLM_TWO_CORES.replace(
        'num_requests_waiting{engine="1",model_name="llama"} 2.0',
        'num_requests_waiting{engine="1",model_name="llama"} NaN',
    )
    assert read("vllm", text).missing == ("waiting_requests",)


def test_ranks_of_sglang_are_added_up() -> None:
    ranked = SGLANG.replace('tp_rank="0"', 'dp_rank="0",tp_rank="0"')
    both = "".join(
        line + line.replace('dp_rank="0"', 'dp_rank="1"') if "dp_rank" in line else line
        for line in ranked.splitlines(keepends=True)
    )
    metrics = read("sglang", both).metrics
    assert (metrics.waiting_requests, metrics.running_requests) == (6, 10)
    assert (metrics.kv_cache_utilization, metrics.kv_cache_blocks) == (0.5, 200)


@pytest.mark.parametrize("size", ["x", "-1", "9" * 30, "1.5", ""])
def test_a_senseless_label_is_unknown(size: str) -> None:
    text = VLLM.replace('num_gpu_blocks="2048"', f'num_gpu_blocks="{size}"')
    metrics = read("vllm", text).metrics
    assert (metrics.block_size_tokens, metrics.kv_cache_blocks) == (16, None)


@given(st.sampled_from(sorted(ENGINES)), st.data())
def test_no_page_makes_an_engine_fail_and_what_is_read_makes_sense(
    engine: str, data: st.DataObject
) -> None:
    pages = [VLLM, VLLM_TWO_CORES, SGLANG, SGLANG_OLDER, TRTLLM_SERVE, TRITON_TRTLLM, TRITON]
    page = data.draw(st.sampled_from(pages)).encode()
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(page)))
        page = (
            page[:at]
            + data.draw(st.binary(max_size=30))
            + page[at + data.draw(st.integers(0, 30)) :]
        )
    metrics = EngineReader(ENGINES[engine]).read(page, 7.0).metrics
    for count in (metrics.waiting_requests, metrics.running_requests, metrics.kv_cache_blocks):
        assert count is None or 0 <= count < 2**32
    assert metrics.kv_cache_utilization is None or 0 <= metrics.kv_cache_utilization <= 1


def test_the_engine_is_named_by_a_label_or_is_vllm() -> None:
    assert engine_of({"llm-d.ai/engine-type": "sglang"}) == "sglang"
    assert engine_of({"inference.networking.k8s.io/engine-type": "triton"}) == "triton"
    assert engine_of({}) == "vllm"


def test_a_metric_spec_takes_labels_with_and_without_quotes() -> None:
    assert MetricSpec.parse('a:b{l=v, m="w"}') == MetricSpec("a:b", {"l": "v", "m": "w"})
    for wrong in ("", "a b", "a{l}", "9a"):
        with pytest.raises(ValueError, match="is not"):
            MetricSpec.parse(wrong)
