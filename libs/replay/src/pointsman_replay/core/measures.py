"""What a run is judged by."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from pointsman_replay.core.replay_run import RunResult


class ServiceLevel(msgspec.Struct, frozen=True):
    """What a request must keep to count as good."""

    ttft_s: float = 2.0
    tpot_s: float = 0.05


class Spread(msgspec.Struct, frozen=True):
    """A distribution over the served requests, seconds."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    requests: int
    """Served."""
    refused: int
    """By the policy: no endpoint was left."""
    ttft_s: Spread
    """From arrival to the first token."""
    e2e_s: Spread
    """From arrival to the last token."""
    tpot_s: Spread
    """Time per output token after the first; of answers of two tokens and more."""
    hit_ratio: float
    """Prompt tokens found in the engines' prefix caches, of all; 0-1."""
    in_slo: float
    """Requests that kept the service level, refused ones counting against; 0-1."""
    goodput_per_s: float
    """Requests within the service level per second, from the first arrival to the last end."""
    imbalance: float
    """Prompt tokens computed by the busiest endpoint, over the mean; 1 is even."""
    preemptions: int
    span_s: float
    """From the first arrival to the last end."""


def measure(result: RunResult, level: ServiceLevel) -> Measures:
    """Sum up a run. Percentiles are linear between neighbours."""
    served = result.served
    arrived = np.array([one.arrived_at for one in served])
    ended = np.array([one.finished_at for one in served])
    prompts = np.array([one.prompt_tokens for one in served], dtype=np.float64)
    cached = np.array([one.cached_tokens for one in served], dtype=np.float64)
    ttft, tpot = ttfts(result), _tpots(result)
    good = float(np.count_nonzero((ttft <= level.ttft_s) & (tpot <= level.tpot_s)))
    span_s = float(ended.max() - arrived.min()) if served else 0.0
    offered = len(served) + result.refused
    computed = np.bincount(
        [one.row for one in served], weights=prompts - cached, minlength=result.replicas
    )
    several = np.array([one.output_tokens > 1 for one in served], dtype=np.bool_)
    return Measures(
        requests=len(served),
        refused=result.refused,
        ttft_s=_spread(ttft),
        e2e_s=_spread(ended - arrived),
        tpot_s=_spread(tpot[several]),
        hit_ratio=float(cached.sum() / prompts.sum()) if served else 0.0,
        in_slo=good / offered if offered else 0.0,
        goodput_per_s=good / span_s if span_s else 0.0,
        imbalance=float(computed.max() / computed.mean()) if computed.any() else 1.0,
        preemptions=sum(one.preemptions for one in served),
        span_s=span_s,
    )


def ttfts(result: RunResult) -> NDArray[np.float64]:
    """Times to first token, in the order of arrival."""
    return np.array([one.first_token_at - one.arrived_at for one in result.served])


def _tpots(result: RunResult) -> NDArray[np.float64]:
    return np.array(
        [
            (one.finished_at - one.first_token_at) / max(1, one.output_tokens - 1)
            for one in result.served
        ]
    )


def _spread(values: NDArray[np.float64]) -> Spread:
    if not len(values):
        return Spread(0.0, 0.0, 0.0, 0.0, 0.0)
    p50, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    return Spread(float(values.mean()), p50, p90, p99, float(values.max()))
