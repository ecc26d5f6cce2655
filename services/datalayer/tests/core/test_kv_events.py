"""From an engine's batches to messages: shapes, order, and the router's chain."""

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_datalayer.core.kv_event_batch import (
    BlocksRemoved,
    BlocksStored,
    Cleared,
    read_batch,
)
from pointsman_datalayer.core.kv_messages import EndpointKv
from pointsman_datalayer.core.kv_sequence import KvSequence, Ordered
from pointsman_datalayer.core.router_chain import RouterChain, chain_seed, next_hash

TOKENS = list(range(100, 108))
STORED = BlocksStored((11, 12), None, tuple(TOKENS), 4)


def stored(**changes: Any) -> dict[str, Any]:
    fields = {
        "type": "BlockStored",
        "block_hashes": [11, 12],
        "parent_block_hash": None,
        "token_ids": TOKENS,
        "block_size": 4,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        "extra_keys": [None, None],
        "group_idx": 0,
        "kv_cache_spec_kind": "full_attention",
    }
    return fields | changes


def pack(batch: Any) -> bytes:
    return msgspec.msgpack.encode(batch)


@pytest.mark.parametrize(
    "batch",
    [
        [1.5, [stored()], 0],
        [1.5, [["BlockStored", [11, 12], None, TOKENS, 4, None, "GPU"]]],
        {"ts": 1.5, "events": [stored()], "data_parallel_rank": 0},
        [1.5, [stored(block_hashes=[b"\xff" * 24 + (11).to_bytes(8, "big"), 12])]],
    ],
    ids=["0.32", "older arrays", "newer maps", "hashes as bytes"],
)
def test_every_shape_of_a_batch_reads_the_same(batch: Any) -> None:
    assert read_batch(pack(batch)) == (STORED,)


def test_removals_and_clearings_are_read_and_other_groups_and_types_left_out() -> None:
    events = [
        {"type": "BlockRemoved", "block_hashes": [11], "medium": "CPU", "group_idx": 0},
        {"type": "BlockRemoved", "block_hashes": [12], "medium": "GPU", "group_idx": 1},
        ["AllBlocksCleared"],
        {"type": "SomethingNew"},
    ]
    assert read_batch(pack([1.5, events, 0])) == (BlocksRemoved((11,), tier=1), Cleared())


def test_what_else_the_hashes_depend_on_is_noticed() -> None:
    (salted,) = read_batch(pack([1.5, [stored(extra_keys=[["salt"], None])]]))
    (adapted,) = read_batch(pack([1.5, [stored(lora_name="sql", extra_keys=[["sql"], ["sql"]])]]))
    assert isinstance(salted, BlocksStored) and salted.keyed
    assert isinstance(adapted, BlocksStored) and not adapted.keyed and adapted.lora == "sql"


_VALUES = st.recursive(
    st.none() | st.integers(0, 2**63) | st.text(max_size=5) | st.just("BlockStored"),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=5), inner),
)


@given(st.binary(max_size=200) | _VALUES.map(lambda value: pack([1.0, value])))
def test_nonsense_is_an_error_and_nothing_else(payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_batch(payload)


def follow(sequence: KvSequence[int], numbers: Sequence[int]) -> list[int | str]:
    """What is applied of batches that carry their own number."""
    applied: list[int | str] = []
    for number in numbers:
        ordered = sequence.receive(number, number)
        applied += [*(["cleared"] if ordered.cleared else []), *ordered.batches]
    return applied


def test_batches_in_order_are_applied_as_they_come() -> None:
    assert follow(KvSequence(can_replay=False), [0, 1, 2]) == [0, 1, 2]


def test_a_gap_that_cannot_be_asked_for_clears_and_goes_on() -> None:
    assert follow(KvSequence(can_replay=False), [0, 3, 4]) == [0, "cleared", 3, 4]


def test_an_engine_that_has_run_for_long_is_asked_for_all_it_keeps() -> None:
    sequence = KvSequence[int](can_replay=True)
    assert sequence.replay_from == 0
    assert follow(sequence, [7]) == []
    ordered = sequence.replayed({number: number for number in range(3, 7)})
    assert (ordered.cleared, ordered.batches, sequence.next_sequence) == (True, (3, 4, 5, 6, 7), 8)


def test_a_gap_is_asked_for_and_what_comes_meanwhile_waits() -> None:
    sequence = KvSequence[int](can_replay=True)
    sequence.replayed({})
    assert follow(sequence, [0, 1, 4, 5]) == [0, 1]
    assert sequence.replay_from == 2
    ordered = sequence.replayed({2: 2, 3: 3, 4: 4})
    assert (ordered.cleared, ordered.batches) == (False, (2, 3, 4, 5))


def test_what_was_lost_last_of_all_is_found_by_looking_again() -> None:
    sequence = KvSequence[int](can_replay=True)
    sequence.replayed({})
    follow(sequence, [0, 1])
    sequence.look_again()
    assert sequence.replay_from == 2
    assert sequence.replayed({2: 2}).batches == (2,)
    sequence.look_again()
    assert sequence.replayed({}) == Ordered(), "there was nothing more"
    silent = KvSequence[int](can_replay=False)
    silent.look_again()
    assert silent.replay_from is None


def test_a_gap_that_is_lost_for_good_clears() -> None:
    sequence = KvSequence[int](can_replay=True)
    sequence.replayed({})
    follow(sequence, [0, 5])
    ordered = sequence.replayed({})
    assert (ordered.cleared, ordered.batches, sequence.next_sequence) == (True, (5,), 6)


def test_an_engine_that_counts_from_the_beginning_is_another_one() -> None:
    assert follow(KvSequence(can_replay=False), [0, 1, 2, 0, 1]) == [0, 1, 2, "cleared", 0, 1]
    sequence = KvSequence[int](can_replay=True)
    sequence.replayed({})
    assert follow(sequence, [0, 1, 2, 1]) == [0, 1, 2, "cleared"]
    assert sequence.replay_from == 0, "its first batch was missed"


@given(st.lists(st.booleans(), max_size=40), st.booleans())
def test_whatever_is_lost_nothing_applied_stands_on_what_is_missing(
    arrives: list[bool], can_replay: bool
) -> None:
    """After the last clearing, the batches applied follow each other without a gap."""
    sequence = KvSequence[int](can_replay=can_replay)
    applied: list[int] = []
    for number, here in enumerate(arrives):
        if sequence.replay_from is not None:
            start = sequence.replay_from
            ordered = sequence.replayed({old: old for old in range(start, number)})
            applied = [*([] if ordered.cleared else applied), *ordered.batches]
        if here:
            ordered = sequence.receive(number, number)
            applied = [*([] if ordered.cleared else applied), *ordered.batches]
    assert applied == list(range(applied[0], applied[0] + len(applied))) if applied else True
    if can_replay and applied:
        assert applied[0] == 0, "all could be had"


def pool_hashes(tokens: Sequence[int], block_tokens: int, model: str) -> list[int]:
    """The chain by its definition."""
    hashes, above = list[int](), chain_seed(model)
    for start in range(0, len(tokens) - block_tokens + 1, block_tokens):
        block = b"".join(
            token.to_bytes(4, "little") for token in tokens[start : start + block_tokens]
        )
        above = next_hash(block, above)
        hashes.append(above)
    return hashes


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=80),
    st.sampled_from([(4, 4), (4, 8), (4, 16), (8, 4), (16, 4)]),
    st.lists(st.integers(1, 4), min_size=30, max_size=30),
)
def test_the_chain_is_the_same_however_the_blocks_come(
    tokens: list[int], sizes: tuple[int, int], cuts: list[int]
) -> None:
    engine, pool = sizes
    chain, parent, told, number = RouterChain(pool), None, list[int](), 0
    blocks = len(tokens) // engine
    for cut in cuts:
        count = min(cut, blocks - number)
        if count == 0:
            break
        hashes = tuple(range(number + 1, number + count + 1))
        part = tuple(tokens[number * engine : (number + count) * engine])
        told += chain.store(BlocksStored(hashes, parent, part, engine), "llama") or []
        number, parent = number + count, hashes[-1]
    assert told == pool_hashes(tokens[: blocks * engine], pool, "llama")
    gone = chain.remove(tuple(range(1, blocks + 1)))
    assert gone == told, "and all of it goes with its blocks"


def test_a_block_of_the_pool_goes_with_any_block_under_it() -> None:
    chain = RouterChain(block_tokens=8)
    (there,) = chain.store(STORED, "llama") or []
    assert chain.remove((12,)) == [there]
    assert chain.remove((11,)) == [there], "told again, which does no harm"
    assert chain.remove((11, 12, 99)) == []


@pytest.mark.parametrize(
    "event",
    [
        BlocksStored((1,), None, (1, 2, 3), 3),
        BlocksStored((1,), 77, (1, 2, 3, 4), 4),
        BlocksStored((1,), None, (1, 2, 3, 4), 4, keyed=True),
        BlocksStored((1, 2), None, (1, 2, 3, 4), 4),
    ],
    ids=["sizes", "parent", "salt", "tokens"],
)
def test_what_cannot_be_told_in_the_chain_is_not(event: BlocksStored) -> None:
    assert RouterChain(block_tokens=8).store(event, "llama") is None


def test_the_chain_forgets_its_oldest_blocks_first() -> None:
    chain = RouterChain(block_tokens=4, capacity=2)
    for number in range(5):
        chain.store(BlocksStored((number,), None, (number,) * 4, 4), "llama")
    assert [len(chain.remove((number,))) for number in range(5)] == [0, 0, 0, 1, 1]


def an_endpoint(base_model: str = "llama") -> EndpointKv:
    return EndpointKv("d/l", "e1", "vllm", base_model, block_tokens=8)


def test_a_batch_is_told_in_the_routers_chain_and_removals_in_both() -> None:
    endpoint = an_endpoint()
    (expected,) = pool_hashes(TOKENS, 8, "llama")
    first, second = endpoint.messages((STORED, BlocksRemoved((12,))), 7)
    assert [block.hash for block in first.stored] == list(first.removed) == [expected]
    assert (first.chain, first.block_tokens, first.engine_sequence) == ("router", 8, 7)
    assert (second.chain, list(second.removed)) == ("vllm", [12])


def test_blocks_stored_after_a_removal_are_a_message_of_their_own() -> None:
    endpoint = an_endpoint(base_model="")
    events = (STORED, BlocksRemoved((11,)), BlocksStored((11,), None, (1, 2, 3, 4), 4))
    told = endpoint.messages(events, 1)
    assert [(len(item.stored), len(item.removed)) for item in told] == [(2, 1), (1, 0)]
    assert {item.chain for item in told} == {"vllm"}


def test_clearing_comes_first_and_adapters_are_kept_apart() -> None:
    endpoint = an_endpoint()
    adapted = BlocksStored((21, 22), None, tuple(TOKENS), 4, lora="sql")
    told = endpoint.messages((STORED, adapted), 1, cleared=True)
    assert [(item.cleared, item.lora) for item in told] == [(True, ""), (False, "sql")]
    base, sql = (message.stored[0].hash for message in told)
    assert (base, sql) == (
        pool_hashes(TOKENS, 8, "llama")[0],
        pool_hashes(TOKENS, 8, "sql")[0],
    )
