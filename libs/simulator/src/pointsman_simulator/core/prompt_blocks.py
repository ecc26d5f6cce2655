"""How many tokens is a prompt, and which prefix blocks is it made of?

There is no tokenizer: four bytes are a token, about what real ones make of English. A block's hash
covers its bytes and, through its seed, every block before it, the adapter and the cache salt; so
two prompts share a block if and only if they agree from the first byte up to its end.
"""

import xxhash

BYTES_PER_TOKEN = 4


def count_tokens(prompt: bytes) -> int:
    """Return the tokens of a prompt, at least 1."""
    return max(1, -(-len(prompt) // BYTES_PER_TOKEN))


def hash_blocks(prompt: bytes, *, block_size: int, lora: str | None, cache_salt: str) -> list[int]:
    """Return the chained hash of each full block of `block_size` tokens."""
    parent = 0
    if lora or cache_salt:
        parent = xxhash.xxh3_64_intdigest(f"{lora or ''}\0{cache_salt}".encode())
    block_bytes = block_size * BYTES_PER_TOKEN
    hashes: list[int] = []
    view = memoryview(prompt)
    for start in range(0, len(prompt) - block_bytes + 1, block_bytes):
        parent = xxhash.xxh3_64_intdigest(view[start : start + block_bytes], parent)
        hashes.append(parent)
    return hashes
