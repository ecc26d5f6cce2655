"""Tokens and block hashes of a prompt."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_simulator.core.prompt_blocks import count_tokens, hash_blocks


def hashes(prompt: bytes, lora: str | None = None, cache_salt: str = "") -> list[int]:
    return hash_blocks(prompt, block_size=2, lora=lora, cache_salt=cache_salt)


@pytest.mark.parametrize(("length", "tokens"), [(0, 1), (1, 1), (4, 1), (5, 2), (4000, 1000)])
def test_four_bytes_are_a_token(length: int, tokens: int) -> None:
    assert count_tokens(b"x" * length) == tokens


def test_only_full_blocks_are_hashed() -> None:
    assert [len(hashes(b"x" * length)) for length in (0, 7, 8, 15, 16)] == [0, 0, 1, 1, 2]


def test_a_block_hash_covers_all_before_it() -> None:
    first, second = hashes(b"aaaaaaaabbbbbbbb"), hashes(b"ccccccccbbbbbbbb")
    assert first[0] != second[0]
    assert first[1] != second[1]


@given(st.binary(max_size=200), st.binary(max_size=100), st.binary(max_size=100))
def test_prompts_share_exactly_the_blocks_of_their_common_prefix(
    prefix: bytes, one: bytes, other: bytes
) -> None:
    left, right = prefix + one, prefix + other
    same = 0
    while same < min(len(left), len(right)) and left[same] == right[same]:
        same += 1
    shared = [a == b for a, b in zip(hashes(left), hashes(right), strict=False)]
    assert shared.count(True) == min(same // 8, len(shared))
    assert all(earlier or not later for earlier, later in pairwise(shared))


def test_adapters_and_salts_share_nothing() -> None:
    prompt = b"x" * 64
    seen = [
        hashes(prompt),
        hashes(prompt, lora="a"),
        hashes(prompt, lora="b"),
        hashes(prompt, cache_salt="a"),
        hashes(prompt, lora="a", cache_salt="a"),
    ]
    assert len({block for blocks in seen for block in blocks}) == sum(map(len, seen))
    assert hashes(prompt, lora="a") == seen[1]
