"""A trace: who asked for what, when; and how its arrivals are brought to a load."""

import math
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import msgspec

GRID_SHARE = 0.3
"""With fewer distinct arrival times than this share of the requests, the source rounded them."""


class ReplayError(Exception):
    """Something asked for cannot be replayed; the message says what and where."""


class TraceRequest(msgspec.Struct, frozen=True, gc=False):
    at_s: float
    """Arrival, since the trace's start."""
    prompt_tokens: int
    output_tokens: int
    block_hashes: tuple[int, ...] = ()
    """One for each full block of the prompt that the source names: it stands for the block and all
    before it."""
    tenant: str = ""


class Trace(msgspec.Struct, frozen=True):
    """Requests in the order of arrival; at least one."""

    name: str
    block_tokens: int
    """Tokens to a block; 0: the trace names no blocks."""
    requests: tuple[TraceRequest, ...]
    notes: tuple[str, ...] = ()
    """What was done to it, in words, for the report."""

    @property
    def span_s(self) -> float:
        """From the first arrival to the last."""
        return self.requests[-1].at_s - self.requests[0].at_s


def grid_of(times: Sequence[float]) -> float | None:
    """Return the length in seconds of the cells to which ordered times were rounded, if they were.

    Mooncake's traces lie on a grid of 3 s: ten requests in one instant, which no gateway sees.
    """
    distinct = sorted(set(times))
    if len(distinct) < 2 or len(distinct) >= GRID_SHARE * len(times):
        return None
    return min(later - earlier for earlier, later in pairwise(distinct))


def spread(trace: Trace, rng: Random) -> Trace:
    """Spread arrivals that lie on a grid evenly at random over the cell that each begins.

    A cell goes up to the next arrival time, the last one as far as the one before it. The order of
    requests is kept. A trace without a grid is returned as it is.
    """
    times = [request.at_s for request in trace.requests]
    grid_s = grid_of(times)
    if grid_s is None:
        return trace
    distinct = sorted(set(times))
    ends = dict(pairwise(distinct))
    ends[distinct[-1]] = 2 * distinct[-1] - distinct[-2]
    counts = dict.fromkeys(distinct, 0)
    for at_s in times:
        counts[at_s] += 1
    spread_times = [
        at_s
        for start, count in counts.items()
        for at_s in sorted(rng.uniform(start, ends[start]) for _ in range(count))
    ]
    return with_times(
        trace, spread_times, f"arrivals spread over their grid of about {grid_s:.1f} s"
    )


def scaled_to_span(trace: Trace, span_s: float) -> Trace:
    """Stretch or squeeze all arrivals by one factor, so that they take `span_s`, from 0 on."""
    start, factor = trace.requests[0].at_s, span_s / trace.span_s if trace.span_s else 0.0
    return with_times(trace, [(one.at_s - start) * factor for one in trace.requests])


def fitting(trace: Trace, kv_tokens: int) -> Trace:
    """Leave out the requests whose prompt and output can never be in one engine's KV cache.

    Raises:
        ReplayError: none is left.
    """
    block = max(1, trace.block_tokens)
    room = kv_tokens // block

    def fits(one: TraceRequest) -> bool:
        return math.ceil((one.prompt_tokens + one.output_tokens) / block) <= room

    kept = tuple(one for one in trace.requests if fits(one))
    if not kept:
        raise ReplayError(f"{trace.name}: no request fits into an engine of {kv_tokens} tokens")
    left_out = len(trace.requests) - len(kept)
    if not left_out:
        return trace
    note = f"{left_out} requests left out, longer than the engine's KV cache"
    return Trace(trace.name, trace.block_tokens, kept, (*trace.notes, note))


def with_times(trace: Trace, times: Sequence[float], *notes: str) -> Trace:
    """Give the requests other arrivals, ordered as they are."""
    requests = tuple(
        TraceRequest(at_s, one.prompt_tokens, one.output_tokens, one.block_hashes, one.tenant)
        for at_s, one in zip(times, trace.requests, strict=True)
    )
    return Trace(trace.name, trace.block_tokens, requests, (*trace.notes, *notes))
