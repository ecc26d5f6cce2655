"""The default policy: what a placement costs, in seconds."""

from typing import Annotated

import msgspec
import numpy as np

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.plugin_protocols import Prediction
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.scorers.uncached import cached_tokens

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Factor = Annotated[float, msgspec.Meta(ge=0)]

MIN_STEP_TOKENS = 64
"""Least room for prefill in a step, however many sequences decode."""


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
        k, length = self._is, request.prompt_tokens
        queued, serving = candidates.prefill_tokens, candidates.serving
        cached = cached_tokens(request, candidates)
        uncached = length - cached
        decode = (
            k.decode_sequence_seconds * serving
            + k.context_token_seconds * candidates.context_tokens
        )
        # n*(h + n/2) with h = L - n
        prefill = uncached * (
            (k.prefill_token_seconds + k.attention_token_squared_seconds * length)
            - 0.5 * k.attention_token_squared_seconds * uncached
        )
        room = np.maximum(k.step_budget_tokens - serving, MIN_STEP_TOKENS)
        steps = 1.0 + (queued + uncached) / room
        first_token = k.prefill_token_seconds * queued + prefill
        first_token += steps * (k.step_overhead_seconds + decode)
        output = request.mean_output_tokens
        output = k.mean_output_tokens if output is None else output
        per_step = k.context_token_seconds * length + k.decode_sequence_seconds
        cost = first_token + (k.gamma * output) * (decode + per_step * serving)
        cost += k.beta * (serving + 2.0 * candidates.prefilling) * prefill
        lack = self._lack(length, candidates)
        if lack is not None:
            step = np.maximum(k.weights_floor_seconds, k.prefill_token_seconds * serving)
            step += k.step_overhead_seconds + decode
            cost += (k.memory_weight * output) * step * lack
        cost *= candidates.speed
        if k.lora_load_seconds and request.lora:
            cost += k.lora_load_seconds * ~candidates.loras.active(request.lora)
        return Prediction(cost_s=cost, ttft_s=candidates.speed * first_token)

    def _lack(self, length: int, candidates: Candidates) -> FloatArray | None:
        """What must end before the request fits, as a share of what is there; `None`: it fits
        everywhere."""
        k, capacity, used = self._is, candidates.kv_tokens, candidates.kv
        if candidates.all_believed:
            used = used * capacity
        else:
            capacity = np.where(np.isnan(capacity), float(k.kv_cache_tokens), capacity)
            weight = np.where(np.isnan(used), 0.0, candidates.freshness)
            leased = np.minimum(candidates.context_tokens, capacity)
            used = weight * np.nan_to_num(used) * capacity + (1.0 - weight) * leased
        need = used + candidates.prefill_tokens - capacity
        need += length
        streams = serving_soon(candidates)
        if np.maximum.reduce(need) <= 0.0 and np.maximum.reduce(streams) <= k.max_sequences:
            return None
        # One token more keeps an empty cache from dividing by nothing.
        memory = need / (used + 1.0)
        slots = (streams - k.max_sequences) / k.max_sequences
        return np.maximum(np.maximum(memory, slots), 0.0)


def serving_soon(candidates: Candidates) -> FloatArray:
    """B + Q + 1: the streams that there will be, this request's included."""
    return candidates.serving + candidates.prefilling + 1.0
