"""What plugins may know of a request."""

from collections.abc import Mapping, Sequence
from struct import unpack_from

import msgspec

from pointsman_common.contracts.routing_pb2 import RequestDescriptor

_HASH_BYTES = 8


class SchedulingRequest(msgspec.Struct, frozen=True, gc=False):
    request_id: str
    model: str
    """As sent to the model server: the base model's name or an adapter's."""
    lora: str
    """The adapter, where it is known to be one."""
    priority: int
    fairness_id: str
    prompt_tokens: int
    """L: an estimate; 0 for a bodiless request."""
    block_tokens: int
    """Prompt tokens to a block; 0: not known."""
    block_hashes: Sequence[int]
    """Chained, first block first, up to the length that is matched."""
    max_output_tokens: int
    """0: not asked."""
    mean_output_tokens: float | None
    """What the model's answers were long of late; `None`: none was seen yet."""
    headers: Mapping[str, str]
    """By lower-case name; those that plugins read."""
    cached_only: bool
    """To be refused unless an endpoint holds part of the prompt."""
    ttft_slo_s: float | None
    """Time to first token that the client asks for."""
    seed: int
    """Of this decision. Whatever is random in it follows from the seed."""


def request_of(
    descriptor: RequestDescriptor,
    *,
    max_blocks: int | None,
    max_tokens: int | None,
    mean_output_tokens: float | None,
    seed: int,
) -> SchedulingRequest:
    """Read a descriptor.

    `max_blocks` and `max_tokens` limit how much of the prompt is matched; `None`: no limit. Bytes
    after the last whole block hash are left out.
    """
    blocks = len(descriptor.prompt_block_hashes) // _HASH_BYTES
    if max_blocks is not None:
        blocks = min(blocks, max_blocks)
    if max_tokens is not None and descriptor.block_tokens:
        blocks = min(blocks, max_tokens // descriptor.block_tokens)
    return SchedulingRequest(
        request_id=descriptor.request_id,
        model=descriptor.target_model,
        lora=descriptor.lora,
        priority=descriptor.priority,
        fairness_id=descriptor.fairness_id,
        prompt_tokens=descriptor.prompt_tokens,
        block_tokens=descriptor.block_tokens,
        block_hashes=read_block_hashes(descriptor.prompt_block_hashes, blocks),
        max_output_tokens=descriptor.max_output_tokens,
        mean_output_tokens=mean_output_tokens,
        headers=descriptor.headers,
        cached_only=descriptor.cached_only,
        ttft_slo_s=descriptor.ttft_slo_ms / 1e3 if descriptor.HasField("ttft_slo_ms") else None,
        seed=seed,
    )


def read_block_hashes(packed: bytes, blocks: int) -> tuple[int, ...]:
    """The first `blocks` hashes, of which there are as many. Little endian, 8 bytes each."""
    return unpack_from(f"<{blocks}Q", packed)
