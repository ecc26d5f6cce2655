"""What an engine counts beyond its own statistics, and all of it as vLLM's /metrics text.

Names, labels, order and numbers are written as vLLM 0.32 does; families of features that the
simulator does not have are left out.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec

from pointsman_simulator.adapters.exposition import Histogram, family, sample
from pointsman_simulator.adapters.metric_families import (
    FINISHED_REASONS,
    FIRST_TOKEN_BOUNDS_S,
    HELP,
    INTER_TOKEN_BOUNDS_S,
    OTHER_CACHE_CONFIG,
    REQUEST_BOUNDS_S,
    token_count_bounds,
)
from pointsman_simulator.adapters.openai_responses import FinishReason
from pointsman_simulator.core.engine_events import EngineStats, Finished, FirstToken
from pointsman_simulator.core.engine_profile import EngineProfile

MAX_LORA_SERIES = 8


class MetricsOverride(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Values to report instead of the engine's own; null leaves the engine's."""

    running: int | None = None
    waiting: int | None = None
    kv: float | None = None
    running_lora_adapters: Sequence[str] | None = None
    waiting_lora_adapters: Sequence[str] | None = None
    max_lora: int | None = None


class EngineMetrics:
    """The counters and histograms of one engine; `created_at` is in seconds since the epoch."""

    def __init__(self, model: str, profile: EngineProfile, created_at: float) -> None:
        self.override = MetricsOverride()
        self._max_loras, self._created_at = profile.max_loras, created_at
        self._cache_config = _cache_config(profile)
        self._labels = {"engine": "0", "model_name": model}
        lengths = token_count_bounds(profile.max_model_len)
        self._histograms = {
            name: Histogram(f"vllm:{name}", self._labels, bounds)
            for name, bounds in (
                ("request_prompt_tokens", lengths),
                ("request_generation_tokens", lengths),
                ("time_to_first_token_seconds", FIRST_TOKEN_BOUNDS_S),
                ("inter_token_latency_seconds", INTER_TOKEN_BOUNDS_S),
                ("e2e_request_latency_seconds", REQUEST_BOUNDS_S),
                ("request_queue_time_seconds", REQUEST_BOUNDS_S),
            )
        }
        self._ended: dict[str, int] = dict.fromkeys(FINISHED_REASONS, 0)
        self._lora_series: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def observe_first_token(self, event: FirstToken) -> None:
        """Count a first token."""
        self._observe("time_to_first_token_seconds", event.at - event.arrived_at)

    def observe_finished(self, event: Finished, reason: FinishReason) -> None:
        """Count an answer that came to its end."""
        self._ended[reason] += 1
        self._observe("request_prompt_tokens", event.prompt_tokens)
        self._observe("request_generation_tokens", event.output_tokens)
        self._observe("e2e_request_latency_seconds", event.at - event.arrived_at)
        self._observe("request_queue_time_seconds", event.admitted_at - event.arrived_at)
        gaps = event.output_tokens - 1
        if gaps:
            mean_s = (event.at - event.first_token_at) / gaps
            self._observe("inter_token_latency_seconds", mean_s, gaps)

    def count_abort(self) -> None:
        """Count an answer whose client went away."""
        self._ended["abort"] += 1

    def render(self, stats: EngineStats, now: float) -> str:
        """Return the text of /metrics; `now` is in seconds since the epoch."""
        stats = self._overridden(stats)
        capacity = {"capacity": stats.waiting - stats.waiting_deferred}
        by_reason = capacity | {"deferred": stats.waiting_deferred}
        lines = [
            *self._gauge("num_requests_running", stats.running),
            *self._gauge("num_requests_waiting", stats.waiting),
            *self._family("num_requests_waiting_by_reason", "gauge", "", by_reason, "reason"),
            *self._gauge("kv_cache_usage_perc", stats.kv_usage),
            *self._counter("prefix_cache_queries", {"": stats.prefix_query_tokens}),
            *self._counter("prefix_cache_hits", {"": stats.prefix_hit_tokens}),
            *self._counter("num_preemptions", {"": stats.preemptions}),
            *self._counter("prompt_tokens", {"": stats.prompt_tokens}),
            *self._counter("prompt_tokens_cached", {"": stats.prefix_hit_tokens}),
            *self._counter("generation_tokens", {"": stats.generation_tokens}),
            *self._counter("request_success", self._ended, "finished_reason"),
            *(line for name in self._histograms for line in self._histogram(name)),
            *self._lora_info(stats, now),
            *self._cache_config,
        ]
        return "\n".join(lines) + "\n"

    def _overridden(self, stats: EngineStats) -> EngineStats:
        override = self.override
        values = {
            "running": override.running,
            "waiting": override.waiting,
            "waiting_deferred": None if override.waiting is None else 0,
            "kv_usage": override.kv,
            "running_loras": override.running_lora_adapters,
            "waiting_loras": override.waiting_lora_adapters,
        }
        given = {name: value for name, value in values.items() if value is not None}
        return msgspec.structs.replace(stats, **given) if given else stats

    def _gauge(self, name: str, value: float) -> list[str]:
        return self._family(name, "gauge", "", {"": value}, "")

    def _counter(self, name: str, values: Mapping[str, float], label: str = "") -> list[str]:
        created = dict.fromkeys(values, self._created_at)
        return [
            *self._family(name, "counter", "_total", values, label),
            *self._family(name, "gauge", "_created", created, label),
        ]

    def _observe(self, name: str, value: float, times: int = 1) -> None:
        self._histograms[name].observe(value, times)

    def _histogram(self, name: str) -> list[str]:
        return [
            *family(f"vllm:{name}", "histogram", HELP[name]),
            *self._histograms[name].lines(),
            *self._family(name, "gauge", "_created", {"": self._created_at}, ""),
        ]

    def _family(
        self, name: str, kind: str, suffix: str, values: Mapping[str, float], label: str
    ) -> list[str]:
        """Return a family with a sample for each value of `label`, or a single one without it."""
        full_name = f"vllm:{name}{suffix}"
        lines = family(full_name, kind, HELP[name])
        for key, value in values.items():
            labels = {**self._labels, label: key} if label else self._labels
            lines.append(sample(full_name, labels, value))
        return lines

    def _lora_info(self, stats: EngineStats, now: float) -> list[str]:
        """Return one series per combination seen, each with the time it was last true, as vLLM."""
        max_lora = self.override.max_lora
        current = (
            str(self._max_loras if max_lora is None else max_lora),
            ",".join(stats.running_loras),
            ",".join(stats.waiting_loras),
        )
        self._lora_series[current] = now
        self._lora_series.move_to_end(current)
        if len(self._lora_series) > MAX_LORA_SERIES:
            self._lora_series.popitem(last=False)
        lines = family("vllm:lora_requests_info", "gauge", HELP["lora_requests_info"])
        for (slots, running, waiting), seen_at in self._lora_series.items():
            labels = {
                "max_lora": slots,
                "running_lora_adapters": running,
                "waiting_lora_adapters": waiting,
            }
            lines.append(sample("vllm:lora_requests_info", labels, seen_at))
        return lines


def _cache_config(profile: EngineProfile) -> list[str]:
    tokens = profile.total_blocks * profile.block_size
    labels = {
        **OTHER_CACHE_CONFIG,
        "block_size": str(profile.block_size),
        "effective_attention_block_size": str(profile.block_size),
        "kv_cache_max_concurrency": str(tokens / profile.max_model_len),
        "kv_cache_size_tokens": str(tokens),
        "num_gpu_blocks": str(profile.total_blocks),
    }
    lines = family("vllm:cache_config_info", "gauge", HELP["cache_config_info"])
    return [*lines, sample("vllm:cache_config_info", labels, 1.0)]
