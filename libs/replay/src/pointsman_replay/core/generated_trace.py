"""A trace where none is at hand: conversations that share system prompts and grow by turns."""

import math
from itertools import count
from random import Random

from pointsman_replay.core.trace import Trace, TraceRequest

GENERATED = "generated"
BLOCK_TOKENS = 64
SYSTEM_PROMPTS = 12
MEAN_TURNS = 4.0
THINK_S = 30.0
"""Mean pause of a user between two turns."""
CONVERSATIONS_PER_S = 1.0
LONGEST_PROMPT = 32_000


def generate_trace(requests: int, seed: int) -> Trace:
    """Draw a trace; the same seed gives the same one.

    System prompts have 256 to 4,096 tokens and the popularity of Zipf's law; user turns a median
    of 150 tokens and answers one of 180, both lognormal; turns are geometric, pauses exponential.
    """
    rng = Random(f"{seed}/{GENERATED}")
    ids = count()
    systems = [[next(ids) for _ in range(rng.randint(4, 64))] for _ in range(SYSTEM_PROMPTS)]
    popularity = [1 / (rank + 1) for rank in range(SYSTEM_PROMPTS)]
    drawn: list[TraceRequest] = []
    start_s = 0.0
    while len(drawn) < requests:
        start_s += rng.expovariate(CONVERSATIONS_PER_S)
        [blocks] = rng.choices(systems, popularity)
        blocks, tokens, at_s = list(blocks), len(blocks) * BLOCK_TOKENS, start_s
        while tokens < LONGEST_PROMPT:
            tokens += _length(rng, 150)
            blocks += [next(ids) for _ in range(tokens // BLOCK_TOKENS - len(blocks))]
            output = _length(rng, 180)
            drawn.append(TraceRequest(at_s, tokens, output, tuple(blocks)))
            tokens += output
            at_s += rng.expovariate(1 / THINK_S)
            if rng.random() < 1 / MEAN_TURNS:
                break
    drawn.sort(key=lambda one: one.at_s)
    return Trace(GENERATED, BLOCK_TOKENS, tuple(drawn[:requests]), (f"generated, seed {seed}",))


def _length(rng: Random, median: int) -> int:
    return max(1, round(rng.lognormvariate(math.log(median), 0.8)))
