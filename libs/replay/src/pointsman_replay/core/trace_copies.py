"""A trace laid over itself, so that its load fills more engines and its shape over time stays."""

from random import Random

import msgspec

from pointsman_replay.core.trace import Trace
from pointsman_simulator.core.engine_profile import EngineProfile

SHIFT_S = 20.0
"""Longest shift of a request in a copy: copies in step would arrive in bursts of their number."""


def engine_seconds(trace: Trace, profile: EngineProfile) -> float:
    """Engine time that the trace takes where no prompt is cached and steps are full."""
    return sum(
        profile.token_s * one.prompt_tokens
        + one.output_tokens * (profile.decode_s + profile.context_s * one.prompt_tokens)
        for one in trace.requests
    )


def copies_for(trace: Trace, profile: EngineProfile, *, engines: float) -> int:
    """Copies with which the trace keeps about so many engines busy on average; at least one."""
    busy = engine_seconds(trace, profile) / trace.span_s if trace.span_s else 1.0
    return max(1, round(engines / busy))


def overlaid(trace: Trace, copies: int, rng: Random) -> Trace:
    """Return the trace with its copies, each request of those shifted a little later, at random."""
    if copies == 1:
        return trace
    requests = list(trace.requests)
    for _ in range(copies - 1):
        requests += [
            msgspec.structs.replace(one, at_s=one.at_s + rng.uniform(0.0, SHIFT_S))
            for one in trace.requests
        ]
    requests.sort(key=lambda one: one.at_s)
    notes = (*trace.notes, f"{copies} copies of it at once")
    return Trace(trace.name, trace.block_tokens, tuple(requests), notes)
