"""What goes into an engine and what comes out of it: requests, events, statistics.

Times are seconds on the caller's clock; an event's `at` is the end of the step that made it. Per
request the order is FirstToken, then Tokens and Preempted in any number, then Finished.
"""

from collections.abc import Sequence

import msgspec


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt to complete."""

    request_id: str
    prompt_tokens: int
    output_tokens: int

    block_hashes: Sequence[int] = ()
    """Chained hashes of the prompt's leading full blocks. Two requests share a block if and only if
    they name the same hash, so whatever must not be shared (adapter, salt) belongs in it."""

    lora: str | None = None

    streamed: bool = False
    """Whether the caller wants `Tokens` events. Without, an engine that only decodes is passed over
    in long leaps."""


class FirstToken(msgspec.Struct, frozen=True, gc=False):
    """The prefill is done and the first token is out."""

    request_id: str
    at: float
    arrived_at: float
    cached_tokens: int  # prompt tokens found in the prefix cache


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """More tokens of a streamed request, all since the last event of that request."""

    request_id: str
    at: float
    count: int


class Preempted(msgspec.Struct, frozen=True, gc=False):
    """The request lost its blocks and waits, first in line, to be computed again."""

    request_id: str
    at: float


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The last token is out and the blocks are released."""

    request_id: str
    at: float
    arrived_at: float
    admitted_at: float
    first_token_at: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    preemptions: int


Event = FirstToken | Tokens | Preempted | Finished


class BlocksStored(msgspec.Struct, frozen=True):
    """Consecutive prompt blocks entered the prefix cache."""

    block_hashes: tuple[int, ...]
    parent_hash: int | None  # of the block before the first; None at the head of a prompt
    request_id: str
    first_block: int  # index of the first of them within that request's prompt


class BlocksRemoved(msgspec.Struct, frozen=True):
    """Blocks were evicted from the prefix cache."""

    block_hashes: tuple[int, ...]


KvEvent = BlocksStored | BlocksRemoved


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """An engine as its metrics show it.

    The gauges are those of the last finished step, as vLLM exports them: `waiting` is what that
    step's schedule left behind, and arrivals during a step are not counted before it ends. Counters
    are of the engine's life.
    """

    running: int
    waiting: int
    waiting_deferred: int  # of `waiting`, those that wait for an adapter slot
    kv_usage: float  # blocks held by running requests over all blocks, 0-1
    running_loras: tuple[str, ...]
    waiting_loras: tuple[str, ...]

    total_blocks: int
    cached_blocks: int  # idle blocks that a later prompt may still hit

    prompt_tokens: int
    generation_tokens: int
    prefix_query_tokens: int
    prefix_hit_tokens: int
    preemptions: int
    finished: int
    aborted: int
    steps: int
    busy_s: float
