"""The default policy: what a placement costs, in seconds."""

import operator
from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import PREFILL_TOKENS, Candidates
from pointsman_scheduler.core.plugin_protocols import Prediction
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

    beta: Factor = 0.1
    """What the others' delay counts. Higher keeps affinity in overload, at the price of the p99 of
    long prompts."""
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


class PredictedLatencyCostScorer:
    """Predicts seconds from leases, the prefix index and the scraped KV cache utilization.

    For L prompt tokens of which h are cached, n = L - h, and the endpoint's P, Q, B, C (see
    candidates.py):

        d = b*B + c*C                                   decode part of a step
        S = p*n + q*n*(h + n/2)                         own prefill
        W = p*P + (1 + (P + n)/(budget - B))*(o + d)    what is ahead of it
        X = beta*(B + 2Q)*S                             what it costs the others
        D = gamma*o~*(d + B*(c*L + b))                  decode: its own and what it adds
        M = memory*o~*step*max(0, (kv*K + P + L - K)/(kv*K), (B + Q + 1 - N)/N)
        cost = v*(W + S + X + D + M)                    time to first token = v*(W + S)

    with step = o + max(w, p*B) + d. The score is lowest cost / cost: 1 for the best, falling in the
    order of the costs, and a candidate's cost is the best one's divided by its score.
    As the scraped kv ages, C/K takes its place; where it is not known, at once.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._is = parameters

    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        return self.score_of(self.predict(request, candidates))

    def score_of(self, prediction: Prediction) -> FloatArray:
        lowest = float(np.minimum.reduce(prediction.cost_s))
        return lowest / prediction.cost_s

    def predict(self, request: SchedulingRequest, candidates: Candidates) -> Prediction:
        blocks, columns = candidates.cached_blocks, candidates.columns[PREFILL_TOKENS:]
        used, capacity = self._memory(candidates)
        if len(candidates) > FEW:
            whole = (blocks, used, capacity, *columns)
            [(cost, ttft)] = self._seconds(request, np.maximum, _any_exceeds, [whole])
        else:
            each = zip(
                blocks.tolist(), used.tolist(), capacity.tolist(), *columns.tolist(), strict=True
            )
            cost, ttft = np.array(self._seconds(request, max, operator.gt, each)).T
        if self._is.lora_load_seconds and request.lora:
            cost = cost + self._is.lora_load_seconds * ~candidates.loras.active(request.lora)
        return Prediction(cost_s=cost, ttft_s=ttft)

    def _seconds(
        self,
        request: SchedulingRequest,
        larger: Callable[[Number, Number | float], Number],
        exceeds: Callable[[Number, float], bool],
        facts: Iterable[tuple[Number, ...]],
    ) -> list[tuple[Number, Number]]:
        """Cost and time to first token of each item of `facts`: an endpoint by plain numbers, or
        all endpoints at once by arrays. Both give the same to the last bit, since they are the same
        operations in the same order.

        An item is cached blocks, tokens used of the KV cache, its size, P, Q, B, C, v.
        """
        k, length = self._is, request.prompt_tokens
        mean = request.mean_output_tokens
        output = k.mean_output_tokens if mean is None else mean
        o, p, w = k.step_overhead_seconds, k.prefill_token_seconds, k.weights_floor_seconds
        b, c = k.decode_sequence_seconds, k.context_token_seconds
        half_q = 0.5 * k.attention_token_squared_seconds
        linear = p + 2.0 * half_q * length  # h + n/2 = L - n/2
        budget, beta, streams = k.step_budget_tokens, k.beta, k.max_sequences
        decoding, added = k.gamma * output, c * length + b
        lacking = k.memory_weight * output
        block_tokens, least = request.block_tokens, min(length, 1)
        seconds: list[tuple[Number, Number]] = []
        for blocks, used, capacity, queued, prefilling, serving, context, speed in facts:
            # The last token is always computed: its logits give the first output token.
            uncached = larger(length - block_tokens * blocks, least)
            decode = b * serving + c * context
            overhead = o + decode
            prefill = uncached * (linear - half_q * uncached)
            steps = 1.0 + (queued + uncached) / larger(budget - serving, MIN_STEP_TOKENS)
            first_token = p * queued + prefill + steps * overhead
            others = beta * (serving + 2.0 * prefilling) * prefill
            decoded = decoding * (decode + added * serving)
            cost = first_token + others + decoded
            tokens = used + queued + length - capacity
            slots = serving + prefilling + 1.0 - streams
            if exceeds(tokens, 0.0) or exceeds(slots, 0.0):
                # One token more keeps an empty cache from dividing by nothing.
                lack = larger(larger(tokens / (used + 1.0), slots / streams), 0.0)
                cost = cost + lacking * lack * (overhead + larger(p * serving, w))
            seconds.append((speed * cost, speed * first_token))
        return seconds

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
