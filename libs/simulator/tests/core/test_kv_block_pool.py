"""Blocks are reused, pinned while in use, and evicted from the tail of the least recent chain."""

from pointsman_simulator.core.engine_events import BlocksRemoved, BlocksStored
from pointsman_simulator.core.kv_block_pool import KvBlockPool


def fill(pool: KvBlockPool, request_id: str, hashes: list[int]) -> None:
    """Compute a prompt of these blocks."""
    pool.allocate(len(hashes))
    pool.publish(request_id, hashes, 0, len(hashes))


def test_released_blocks_are_found_again_until_they_are_evicted() -> None:
    pool = KvBlockPool(4)
    fill(pool, "a", [1, 2, 3])
    pool.release([1, 2, 3], 3, 0)
    assert (pool.used, pool.idle, pool.available) == (0, 3, 4)
    assert pool.match([1, 2, 9], limit=3) == (2, 2)
    assert pool.match([1, 2, 3], limit=2) == (2, 2)
    assert pool.match([9, 1], limit=2) == (0, 0)


def test_the_tail_of_the_least_recent_chain_goes_first() -> None:
    pool = KvBlockPool(6, record_events=True)
    fill(pool, "a", [1, 2, 3])
    pool.release([1, 2, 3], 3, 0)
    fill(pool, "b", [7, 8])
    pool.release([7, 8], 2, 0)
    pool.drain_events()
    pool.allocate(1)  # the last unused one
    assert pool.drain_events() == []
    pool.allocate(2)
    assert pool.drain_events() == [BlocksRemoved((3, 2))]
    pool.allocate(2)
    assert pool.drain_events() == [BlocksRemoved((1, 8))]
    assert pool.match([7], limit=1) == (1, 1)


def test_using_a_chain_again_makes_it_recent() -> None:
    pool = KvBlockPool(3)
    fill(pool, "a", [1])
    pool.release([1], 1, 0)
    fill(pool, "b", [2])
    pool.release([2], 1, 0)
    pool.acquire([1], 1)
    pool.release([1], 1, 0)
    pool.allocate(2)
    assert pool.match([1], limit=1) == (1, 1)
    assert pool.match([2], limit=1) == (0, 0)


def test_a_block_is_pinned_until_its_last_holder_leaves() -> None:
    pool = KvBlockPool(3)
    fill(pool, "a", [1])
    pool.acquire([1], 1)
    pool.release([1], 1, 0)
    assert (pool.used, pool.available) == (1, 2)
    pool.allocate(2)
    assert pool.match([1], limit=1) == (1, 0)
    pool.release([1], 1, 2)
    assert (pool.used, pool.idle) == (0, 1)


def test_computing_a_cached_block_again_makes_one_of_the_two() -> None:
    pool = KvBlockPool(4, record_events=True)
    fill(pool, "a", [1, 2])
    fill(pool, "b", [1, 2])
    assert pool.used == 2
    assert pool.drain_events() == [BlocksStored((1, 2), None, "a", 0)]
    pool.release([1, 2], 2, 0)
    pool.release([1, 2], 2, 0)
    fill(pool, "c", [1, 2])  # from idle
    assert (pool.used, pool.idle) == (2, 0)
    assert pool.drain_events() == []


def test_stored_blocks_name_their_parent_and_their_place() -> None:
    pool = KvBlockPool(9, record_events=True)
    pool.allocate(5)
    pool.publish("a", [1, 2, 3, 4, 5], 0, 2)
    pool.publish("a", [1, 2, 3, 4, 5], 2, 5)
    assert pool.drain_events() == [
        BlocksStored((1, 2), None, "a", 0),
        BlocksStored((3, 4, 5), 2, "a", 2),
    ]


def test_without_recording_there_are_no_events() -> None:
    pool = KvBlockPool(2)
    fill(pool, "a", [1])
    assert pool.drain_events() == []
