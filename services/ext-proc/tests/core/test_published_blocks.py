from hypothesis import given
from hypothesis import strategies as st

from pointsman_ext_proc.core.published_blocks import PublishedBlocks


def test_blocks_are_told_once_for_each_endpoint() -> None:
    blocks = PublishedBlocks(period_s=30.0)
    assert blocks.first_new("e1", [1, 2, 3], 0.0) == 0
    assert blocks.first_new("e1", [1, 2, 3, 4], 1.0) == 3
    assert blocks.first_new("e1", [1, 2, 3, 4], 2.0) == 4
    assert blocks.first_new("e2", [1, 2, 3, 4], 2.0) == 0
    assert blocks.first_new("e1", [1, 9], 3.0) == 1
    assert blocks.first_new("e1", [], 3.0) == 0


def test_they_are_told_again_after_two_periods_at_most() -> None:
    blocks = PublishedBlocks(period_s=30.0)
    blocks.first_new("e1", [1, 2], 0.0)
    assert blocks.first_new("e1", [1, 2], 31.0) == 2
    assert blocks.first_new("e1", [1, 2], 62.0) == 0


def test_a_late_starter_hears_the_beginning_even_of_a_talk_that_goes_on() -> None:
    blocks = PublishedBlocks(period_s=30.0)
    told_again = 0
    for turn in range(20):
        first = blocks.first_new("e1", list(range(turn + 1)), 10.0 * turn)
        told_again += turn > 0 and first == 0
    assert told_again >= 2


@given(st.lists(st.lists(st.integers(0, 50), max_size=20), max_size=200))
def test_what_is_remembered_is_bounded(prompts: list[list[int]]) -> None:
    blocks = PublishedBlocks(period_s=1e9, max_blocks=30)
    for index, prompt in enumerate(prompts):
        assert 0 <= blocks.first_new(f"e{index % 3}", prompt, float(index)) <= len(prompt)
        held = sum(len(known) for side in (blocks._young, blocks._old) for known in side.values())
        assert held <= 2 * (30 + 20)
