"""The default policy: what a placement costs, in seconds."""

import math
import operator
from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import PREFILL_TOKENS, SPEED, Candidates
from pointsman_scheduler.core.plugin_protocols import LatencyModel, Prediction
from pointsman_scheduler.core.scheduling_request import SchedulingRequest

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Factor = Annotated[float, msgspec.Meta(ge=0)]
Number = TypeVar("Number", float, FloatArray)

MIN_STEP_TOKENS = 64
"""Least room for prefill in a step, however many sequences decode."""

FEW = 12
"""Up to so many candidates are worked out one by one, which is then faster than numpy."""


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Defaults are of an 8B model on one H100."""

    beta: Factor = 0.02
    """What the delay of a stream past its first token counts. Higher keeps affinity and the pace of
    streams in overload, at the price of the time to first token."""
    waiting_beta: Factor = 1.0
    """What the delay of a request that waits for its first token counts. Higher keeps long prompts
    away from where many wait: shorter waits on average, at the price of the p99 of long prompts."""
    crowding_weight: Factor = 5.0
    """What each second of backlog counts in addition beyond `crowdingRatio` times the mean of the
    candidates and `crowdingSlackSeconds`. It bounds what the long prompts are asked to wait."""
    crowding_ratio: Factor = 1.2
    crowding_slack_seconds: Seconds = 0.5
    slo_weight: Factor = 10.0
    """What each second beyond the time to first token that the request asks for counts."""
    gamma: Factor = 0.1
    """What decoding counts: the request's own and what it adds to the others'."""
    memory_weight: Factor = 0.3
    """What a lack of KV cache or slots counts."""
    step_overhead_seconds: Annotated[float, msgspec.Meta(gt=0)] = 0.002
    """o"""
    weights_floor_seconds: Seconds = 0.007
    """w: a step lasts at least as long as reading the weights."""
    prefill_token_seconds: Seconds = 45e-6
    """p"""
    attention_token_squared_seconds: Seconds = 1.3e-9
    """q"""
    decode_sequence_seconds: Seconds = 30e-6
    """b: of a step, per decoding sequence."""
    context_token_seconds: Seconds = 0.052e-6
    """c: of a step, per context token of the decoding sequences."""
    step_budget_tokens: Annotated[int, msgspec.Meta(gt=0)] = 2048
    """Tokens that the engine processes in a step."""
    kv_cache_tokens: Annotated[int, msgspec.Meta(gt=0)] = 410_000
    """K, where an endpoint does not report the size of its cache."""
    max_sequences: Annotated[int, msgspec.Meta(gt=0)] = 256
    """N"""
    mean_output_tokens: Annotated[float, msgspec.Meta(ge=0)] = 200.0
    """o~, until answers of the model have been seen."""
    lora_load_seconds: Seconds = 0.05
    """Added where the request's adapter is not in use."""
    learn_speeds: bool = True
    """Learn how fast each endpoint is, relative to these constants, from times to first token."""
    speed_label: str = "pointsman.dev/relative-speed"
    """Label that holds the time that an endpoint takes for the same work, relative to these
    constants; where it is a number above 0, nothing is learned."""
    profile_label: str = "pointsman.dev/engine-profile"
    """Label that tells kinds of endpoints apart, beside their engine: a new one is taken to be as
    fast as its kind."""


class PredictedLatencyCostScorer:
    """Predicts seconds from leases, the prefix index and the scraped KV cache utilization.

    For L prompt tokens of which h are cached, n = L - h, and the endpoint's P, Q, B, C (see
    candidates.py):

        d = b*B + c*C                                   decode part of a step
        S = p*n + q*n*(h + n/2)                         own prefill
        T = (1 + (P + n)/(budget - B))*(o + d)          steps until the first token
        X = (beta*B + waitingBeta*Q)*S                  what it costs the others
        Z = crowdingWeight*max(0, v*p*P - crowdingRatio*mean(v*p*P) - slack)
        D = gamma*o~*(d + B*(c*L + b))                  decode: its own and what it adds
        M = memory*o~*step*max(0, (kv*K + P + L - K)/(kv*K), (B + Q + 1 - N)/N)
        ttft = v*(p*P + S) + u*T
        cost = ttft + v*X + Z + u*(D + M) + sloWeight*max(0, ttft - SLO)

    with step = o + max(w, p*B) + d; v and u are how much longer than by these constants the
    endpoint takes for prefill and for steps. The score is lowest cost / cost: 1 for the best,
    falling in the order of the costs, and a candidate's cost is the best one's divided by its
    score. As the scraped kv ages, C/K takes its place; where it is not known, at once.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._is = parameters

    @property
    def model(self) -> LatencyModel:
        k = self._is
        return LatencyModel(k.prefill_token_seconds, k.learn_speeds, k.speed_label, k.profile_label)

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        return self.score_of(self.predict(request, candidates))

    def score_of(self, prediction: Prediction) -> FloatArray:
        lowest = float(np.minimum.reduce(prediction.cost_s))
        return lowest / prediction.cost_s

    def predict(self, request: SchedulingRequest, candidates: Candidates) -> Prediction:
        blocks, columns = candidates.cached_blocks, candidates.columns[PREFILL_TOKENS:]
        used, capacity = self._memory(candidates)
        crowded_s = self._crowded_s(candidates)
        if len(candidates) > FEW:
            whole = (blocks, used, capacity, *columns)
            [seconds] = self._seconds(request, np.maximum, _any_exceeds, crowded_s, [whole])
            cost, ttft, prefill, overhead = seconds
        else:
            each = zip(
                blocks.tolist(), used.tolist(), capacity.tolist(), *columns.tolist(), strict=True
            )
            seconds_of_each = self._seconds(request, max, operator.gt, crowded_s, each)
            cost, ttft, prefill, overhead = np.array(seconds_of_each).T
        if self._is.lora_load_seconds and request.lora:
            cost = cost + self._is.lora_load_seconds * ~candidates.loras.active(request.lora)
        return Prediction(cost_s=cost, ttft_s=ttft, prefill_s=prefill, overhead_s=overhead)

    def _seconds(
        self,
        request: SchedulingRequest,
        larger: Callable[[Number, Number | float], Number],
        exceeds: Callable[[Number, float], bool],
        crowded_s: float,
        facts: Iterable[tuple[Number, ...]],
    ) -> list[tuple[Number, Number, Number, Number]]:
        """Cost, time to first token, and its two parts, of each item of `facts`: an endpoint by
        plain numbers, or all endpoints at once by arrays. Both give the same to the last bit, since
        they are the same operations in the same order.

        An item is cached blocks, tokens used of the KV cache, its size, P, Q, B, C, v, u.
        """
        k, length = self._is, request.prompt_tokens
        mean = request.mean_output_tokens
        output = k.mean_output_tokens if mean is None else mean
        o, p, w = k.step_overhead_seconds, k.prefill_token_seconds, k.weights_floor_seconds
        b, c = k.decode_sequence_seconds, k.context_token_seconds
        half_q = 0.5 * k.attention_token_squared_seconds
        linear = p + 2.0 * half_q * length  # h + n/2 = L - n/2
        budget, streams = k.step_budget_tokens, k.max_sequences
        beta, waiting_beta, crowding = k.beta, k.waiting_beta, k.crowding_weight
        decoding, added = k.gamma * output, c * length + b
        lacking = k.memory_weight * output
        block_tokens, least = request.block_tokens, min(length, 1)
        slo_s = math.inf if request.ttft_slo_s is None else request.ttft_slo_s
        seconds: list[tuple[Number, Number, Number, Number]] = []
        for blocks, used, capacity, queued, prefilling, serving, context, speed, drag in facts:
            # The last token is always computed: its logits give the first output token.
            uncached = larger(length - block_tokens * blocks, least)
            decode = b * serving + c * context
            step = o + decode
            own = uncached * (linear - half_q * uncached)
            steps = 1.0 + (queued + uncached) / larger(budget - serving, MIN_STEP_TOKENS)
            ahead = p * queued
            prefill, overhead = ahead + own, steps * step
            others = (beta * serving + waiting_beta * prefilling) * own
            stretched = decoding * (decode + added * serving)
            tokens = used + queued + length - capacity
            slots = serving + prefilling + 1.0 - streams
            if exceeds(tokens, 0.0) or exceeds(slots, 0.0):
                # One token more keeps an empty cache from dividing by nothing.
                lack = larger(larger(tokens / (used + 1.0), slots / streams), 0.0)
                stretched = stretched + lacking * lack * (step + larger(p * serving, w))
            first_token = speed * prefill + drag * overhead
            cost = first_token + speed * others + drag * stretched
            crowd = speed * ahead - crowded_s
            if exceeds(crowd, 0.0):
                cost = cost + crowding * larger(crowd, 0.0)
            late = first_token - slo_s
            if exceeds(late, 0.0):
                cost = cost + k.slo_weight * larger(late, 0.0)
            seconds.append((cost, first_token, prefill, overhead))
        return seconds

    def _crowded_s(self, candidates: Candidates) -> float:
        """Seconds of backlog from which an endpoint is crowded."""
        columns, k = candidates.columns, self._is
        # Always by numpy, since it adds up in an order of its own.
        together = float(np.add.reduce(columns[PREFILL_TOKENS] * columns[SPEED]))
        mean_s = k.prefill_token_seconds * together / len(candidates)
        return k.crowding_ratio * mean_s + k.crowding_slack_seconds

    def _memory(self, candidates: Candidates) -> tuple[FloatArray, FloatArray]:
        """Tokens used of each endpoint's KV cache, and its size."""
        used, capacity = candidates.kv, candidates.kv_tokens
        if candidates.all_believed:
            return used * capacity, capacity
        capacity = np.where(np.isnan(capacity), float(self._is.kv_cache_tokens), capacity)
        weight = np.where(np.isnan(used), 0.0, candidates.freshness)
        leased = np.minimum(candidates.context_tokens, capacity)
        return weight * np.nan_to_num(used) * capacity + (1.0 - weight) * leased, capacity


def _any_exceeds(values: FloatArray, limit: float) -> bool:
    return bool(np.maximum.reduce(values) > limit)
