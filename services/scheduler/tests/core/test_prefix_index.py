from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_scheduler.core.prefix_index import PrefixIndex


def endpoint(uid: str, *, capacity: int | None = None, epoch: int = 0) -> Endpoint:
    """Reports a KV cache of `capacity` blocks of 64 tokens."""
    metrics = EndpointMetrics()
    if capacity is not None:
        metrics = EndpointMetrics(block_size_tokens=16, kv_cache_blocks=capacity * 4)
    return Endpoint(uid=uid, name=uid, address=f"{uid}:80", epoch=epoch, metrics=metrics)


def an_index(*endpoints: Endpoint, max_blocks: int = 10_000, default: int = 100) -> PrefixIndex:
    index = PrefixIndex(max_blocks=max_blocks, default_capacity=default)
    index.follow(endpoints, 64, tuned=True)
    return index


def matched(index: PrefixIndex, hashes: list[int], uid: str) -> int:
    slot = index.slot_of(uid)
    assert slot is not None
    return int(index.match(hashes)[slot])


def test_only_leading_blocks_count() -> None:
    index = an_index(endpoint("a"), endpoint("b"))
    index.insert("a", [1, 2, 3])
    index.insert("b", [2, 3])
    assert matched(index, [1, 2, 9], "a") == 2
    assert matched(index, [1, 2, 3], "b") == 0
    assert matched(index, [], "a") == 0


def test_a_chain_loses_its_tail_before_its_head() -> None:
    index = an_index(endpoint("a", capacity=3))
    index.insert("a", [1, 2])
    index.insert("a", [7, 8])
    assert matched(index, [1, 2], "a") == 1
    assert matched(index, [7, 8], "a") == 2


def test_of_a_prompt_longer_than_the_cache_the_head_is_held() -> None:
    index = an_index(endpoint("a", capacity=3))
    index.insert("a", [1, 2, 3, 4, 5])
    assert matched(index, [1, 2, 3, 4, 5], "a") == 3
    assert len(index) == 3


def test_an_endpoint_of_unknown_cache_has_the_default_capacity() -> None:
    index = an_index(endpoint("a"), default=2)
    index.insert("a", [1, 2, 3])
    assert len(index) == 2


def test_what_an_endpoint_held_is_forgotten_when_it_goes() -> None:
    index = an_index(endpoint("a"), endpoint("b"))
    index.insert("a", [1, 2])
    index.insert("b", [1])
    index.follow([endpoint("b")], 64, tuned=True)
    assert len(index) == 1
    index.follow([endpoint("b"), endpoint("c")], 64, tuned=True)  # takes the free slot
    assert matched(index, [1, 2], "c") == 0
    assert matched(index, [1, 2], "b") == 1


def test_what_an_endpoint_held_is_forgotten_when_its_engine_restarts() -> None:
    index = an_index(endpoint("a"))
    index.insert("a", [1, 2])
    index.follow([endpoint("a", epoch=1)], 64, tuned=True)
    assert matched(index, [1, 2], "a") == 0
    assert len(index) == 0


def test_an_unknown_endpoint_is_ignored() -> None:
    index = an_index(endpoint("a"))
    index.insert("z", [1])
    assert len(index) == 0


def test_shares_shrink_when_endpoints_join() -> None:
    index = an_index(endpoint("a"), max_blocks=6)
    index.insert("a", [1, 2, 3, 4, 5, 6])
    index.follow([endpoint("a"), endpoint("b"), endpoint("c")], 64, tuned=True)
    index.insert("b", [1, 2])
    assert matched(index, [1, 2, 3], "a") == 2
    assert matched(index, [1, 2], "b") == 2


def test_many_endpoints_are_matched_at_once() -> None:
    uids = [f"e{number}" for number in range(100)]
    index = an_index(*(endpoint(uid) for uid in uids))
    for number, uid in enumerate(uids):
        index.insert(uid, list(range(1, number % 5 + 1)))
    for number, uid in enumerate(uids):
        assert matched(index, [1, 2, 3, 4, 5], uid) == number % 5


class NaiveIndex:
    """One ordered dictionary an endpoint, walked for each."""

    def __init__(self, capacities: dict[str, int]) -> None:
        self.capacities = capacities
        self.held: dict[str, OrderedDict[int, None]] = {uid: OrderedDict() for uid in capacities}

    def insert(self, uid: str, hashes: list[int]) -> None:
        held, capacity = self.held[uid], self.capacities[uid]
        for block in reversed(hashes[:capacity]):
            held[block] = None
            held.move_to_end(block)
        while len(held) > capacity:
            held.popitem(last=False)

    def match(self, uid: str, hashes: list[int]) -> int:
        count = 0
        for block in hashes:
            if block not in self.held[uid]:
                break
            count += 1
        return count


CAPACITIES = {f"e{number}": 1 + number % 7 for number in range(12)}
UIDS = st.sampled_from(sorted(CAPACITIES))
PROMPTS = st.lists(st.integers(0, 12), max_size=9, unique=True)


@given(st.lists(st.tuples(UIDS, PROMPTS), max_size=60), PROMPTS)
def test_it_matches_as_the_naive_index_does(
    sent: list[tuple[str, list[int]]], asked: list[int]
) -> None:
    index = an_index(*(endpoint(uid, capacity=size) for uid, size in CAPACITIES.items()))
    naive = NaiveIndex(CAPACITIES)
    for uid, prompt in sent:
        index.insert(uid, prompt)
        naive.insert(uid, prompt)
    assert {uid: matched(index, asked, uid) for uid in CAPACITIES} == {
        uid: naive.match(uid, asked) for uid in CAPACITIES
    }
    assert len(index) == sum(len(held) for held in naive.held.values())


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), UIDS, PROMPTS),
            st.tuples(st.just("follow"), st.sets(UIDS), st.integers(0, 3)),
        ),
        max_size=60,
    ),
    st.integers(1, 20),
)
def test_it_never_exceeds_its_bound(steps: list[tuple[str, object, object]], bound: int) -> None:
    index = an_index(*(endpoint(uid) for uid in CAPACITIES), max_blocks=bound)
    for kind, first, second in steps:
        if kind == "send":
            index.insert(first, second)  # type: ignore[arg-type]  # hypothesis' tuples
        else:
            index.follow([endpoint(uid, epoch=second) for uid in first], 64, tuned=True)  # type: ignore[attr-defined,arg-type]  # hypothesis' tuples
        assert len(index) <= bound


@pytest.mark.parametrize("count", [1, 7, 8, 9, 63, 64, 65, 200])
def test_masks_of_every_width_are_read_alike(count: int) -> None:
    uids = [f"e{number}" for number in range(count)]
    index = an_index(*(endpoint(uid) for uid in uids))
    for uid in uids:
        index.insert(uid, [5])
    assert index.match([5]).tolist() == [1] * count


def test_fewer_entries_are_held_where_many_endpoints_make_each_larger() -> None:
    few, many = (
        an_index(*(endpoint(f"e{number}") for number in range(count)), max_blocks=100_000)
        for count in (10, 4_000)
    )
    for index in (few, many):
        for number in range(10):
            for prompt in range(120):
                index.insert(f"e{number}", [prompt])
    assert len(few) == 10 * 100  # each its capacity
    assert len(many) == 10 * 7  # a share of 100,000 * 250 / (250 + 533)
