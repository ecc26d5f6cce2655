from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from pointsman_scheduler.core.recent_blocks import RecentBlocks

PROMPTS = st.lists(st.integers(0, 15), max_size=8)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("touch"), PROMPTS),
        st.tuples(st.just("discard"), PROMPTS),
        st.tuples(st.just("pop"), st.integers(0, 6)),
        st.tuples(st.just("older"), PROMPTS),
    ),
    max_size=80,
)


class Naive:
    """An ordered dictionary, least recently used first."""

    def __init__(self) -> None:
        self.blocks: OrderedDict[int, None] = OrderedDict()

    def touch(self, hashes: list[int]) -> None:
        for block in reversed(hashes):
            self.blocks[block] = None
            self.blocks.move_to_end(block)

    def older(self, hashes: list[int]) -> None:
        for block in dict.fromkeys(hashes):
            if block not in self.blocks:
                self.blocks[block] = None
                self.blocks.move_to_end(block, last=False)


@given(STEPS)
def test_it_keeps_the_order_of_use_as_an_ordered_dictionary_does(
    steps: list[tuple[str, list[int] | int]],
) -> None:
    recent, naive = RecentBlocks(), Naive()
    for kind, given_ in steps:
        if isinstance(given_, int):
            expected = [
                naive.blocks.popitem(last=False)[0] for _ in range(min(given_, len(naive.blocks)))
            ]
            assert recent.pop_oldest(given_) == expected
            continue
        hashes = list(dict.fromkeys(given_))
        before = set(naive.blocks)
        if kind == "touch":
            naive.touch(hashes)
            assert set(recent.touch(hashes)) == set(hashes) - before
        elif kind == "older":
            naive.older(hashes)
            assert set(recent.add_older(hashes)) == set(hashes) - before
        else:
            for block in hashes:
                naive.blocks.pop(block, None)
            assert set(recent.discard(hashes)) == set(hashes) & before
        assert len(recent) == len(naive.blocks)
    assert recent.pop_oldest(1000) == list(naive.blocks)


@given(STEPS)
def test_its_prompts_rebuild_it_elsewhere(steps: list[tuple[str, list[int] | int]]) -> None:
    recent, copy = RecentBlocks(), RecentBlocks()
    for kind, given_ in steps:
        if isinstance(given_, int):
            recent.pop_oldest(given_)
        elif kind == "touch":
            recent.touch(list(dict.fromkeys(given_)))
        elif kind == "discard":
            recent.discard(given_)
        else:
            recent.add_older(given_)
    for _, hashes in recent.prompts():
        copy.add_older(hashes)
    assert len(copy) == len(recent)
    assert copy.pop_oldest(1000) == recent.pop_oldest(1000)


def test_a_prompt_that_comes_again_and_again_does_not_grow_the_log() -> None:
    recent, prompt = RecentBlocks(), tuple(range(100))
    for _ in range(10_000):
        recent.touch(prompt)
    assert sum(len(hashes) for _, hashes in recent.prompts()) == 100
    assert recent._logged <= 3 * 100 + 164


def test_a_prompt_that_names_a_block_twice_counts_it_once() -> None:
    recent = RecentBlocks()
    assert recent.touch([7, 7, 8]) == [7, 8]
    assert len(recent) == 2
    assert sorted(recent.pop_oldest(5)) == [7, 8]
    assert recent.pop_oldest(1) == []
