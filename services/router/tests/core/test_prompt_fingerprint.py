import struct

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pointsman_router.core.prompt_fingerprint import block_hashes, chain_seed


def hashes(
    *prompts: bytes, model: str = "m", salt: str = "", block_tokens: int = 4, max_blocks: int = 99
) -> list[int]:
    seed = chain_seed(model, salt)
    return block_hashes(prompts, seed=seed, block_tokens=block_tokens, max_blocks=max_blocks)


def test_the_chain_is_upstreams() -> None:
    def h(data: bytes) -> int:
        return xxhash.xxh64_intdigest(data)

    seed = h(b"ms")
    first = h(struct.pack("<QQ", h(b"0123456789abcdef"), seed))
    second = h(struct.pack("<QQ", h(b"xyz\0"), first))
    assert hashes(b"0123456789abcdefxyz", salt="s") == [first, second]


def test_an_empty_prompt_has_no_blocks() -> None:
    assert hashes(b"") == []
    assert hashes() == []


def test_another_model_or_salt_shares_nothing() -> None:
    prompt = b"x" * 64
    assert not set(hashes(prompt)) & set(hashes(prompt, model="n"))
    assert not set(hashes(prompt)) & set(hashes(prompt, salt="s"))


def test_several_prompts_are_hashed_apart_and_share_one_bound() -> None:
    a, b = b"a" * 40, b"b" * 40
    assert hashes(a, b) == hashes(a) + hashes(b)
    assert hashes(a, b, max_blocks=4) == hashes(a) + hashes(b)[:1]
    assert hashes(a, b, max_blocks=0) == []


@given(prompt=st.binary(max_size=300), more=st.binary(max_size=300))
def test_a_longer_prompt_begins_with_the_full_blocks_of_a_shorter(
    prompt: bytes, more: bytes
) -> None:
    full = len(prompt) // 16
    shorter, longer = hashes(prompt), hashes(prompt + more)
    assert longer[:full] == shorter[:full]
    assert len(shorter) == -(-len(prompt) // 16)


@given(prompt=st.binary(min_size=64, max_size=64), at=st.integers(0, 63))
def test_a_changed_byte_changes_its_block_and_all_after_it(prompt: bytes, at: int) -> None:
    changed = bytearray(prompt)
    changed[at] ^= 1
    before, after = hashes(prompt), hashes(bytes(changed))
    assert before[: at // 16] == after[: at // 16]
    assert not set(before[at // 16 :]) & set(after[at // 16 :])
