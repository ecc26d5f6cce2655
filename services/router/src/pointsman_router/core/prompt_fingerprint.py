"""What a prompt begins with, as a chain of hashes that schedulers compare.

seed h0 = xxhash64(target model || cache salt); of the i-th block of prompt bytes
b_i = xxhash64(block), h_i = xxhash64(LE64(b_i) || LE64(h_i-1)). A hash so stands for its block and
all before it, under one model and one salt. The last block may be short; it is padded to whole
tokens with zeros. Source: llm-d-router, approx-prefix-cache-producer with its estimating token
producer, where four bytes of the prompt are one token: the hashes are upstream's own for the same
prompt bytes.
"""

import struct
from collections.abc import Sequence

from xxhash import xxh64_intdigest

from pointsman_router.core.request_parsers.prompt_text import BYTES_PER_TOKEN

_PAIR = struct.Struct("<QQ").pack


def chain_seed(target_model: str, cache_salt: str) -> int:
    return xxh64_intdigest(f"{target_model}{cache_salt}".encode())


def block_hashes(
    prompts: Sequence[bytes], *, seed: int, block_tokens: int, max_blocks: int
) -> list[int]:
    """The chains of all prompts, one after the other, each from the seed.

    At most `max_blocks` in all: what is left out only makes later blocks of the prompt unknown.
    """
    block_bytes = block_tokens * BYTES_PER_TOKEN
    digest, pair, hashes = xxh64_intdigest, _PAIR, list[int]()
    for prompt in prompts:
        room = max_blocks - len(hashes)
        if room <= 0:
            break
        short = -len(prompt) % BYTES_PER_TOKEN
        padded = prompt + bytes(short) if short else prompt
        above = seed
        hashes += [
            above := digest(pair(digest(padded[start : start + block_bytes]), above))
            for start in range(0, min(len(padded), room * block_bytes), block_bytes)
        ]
    return hashes
