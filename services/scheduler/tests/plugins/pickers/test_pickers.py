from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_scheduler.plugins.pickers.max_score import MaxScorePicker, Parameters
from pointsman_scheduler.plugins.pickers.random import RandomPicker
from pointsman_scheduler.plugins.pickers.weighted_random import WeightedRandomPicker


def wanted(count: int) -> Parameters:
    return Parameters(max_num_of_endpoints=count)


@given(
    st.lists(st.integers(0, 5).map(float), min_size=1, max_size=150),
    st.integers(1, 30),
    st.integers(0, 2**64 - 1),
)
def test_the_highest_scores_come_first_each_once(
    totals: list[float], count: int, seed: int
) -> None:
    rows = MaxScorePicker(wanted(count)).pick(np.array(totals), Random(seed))
    assert len(set(rows)) == len(rows) == min(count, len(totals))
    assert [totals[row] for row in rows] == sorted(totals, reverse=True)[: len(rows)]


@pytest.mark.parametrize("size", [5, 100])
@pytest.mark.parametrize("count", [1, 20])
def test_ties_are_as_likely(size: int, count: int) -> None:
    picker, totals = MaxScorePicker(wanted(count)), np.ones(size)
    totals[0] = 0.0
    first = Counter(picker.pick(totals, Random(seed))[0] for seed in range(4000))
    assert set(first) == set(range(1, size))
    expected = 4000 / (size - 1)
    assert all(0.4 * expected < times < 1.9 * expected for times in first.values())


def test_a_weighted_choice_follows_the_scores() -> None:
    picker, totals = WeightedRandomPicker(wanted(1)), np.array([3.0, 1.0, 0.0])
    rng = Random(7)
    counts = Counter(picker.pick(totals, rng)[0] for _ in range(8000))
    assert counts[0] / 8000 == pytest.approx(0.75, abs=0.02)
    assert counts[2] == 0


def test_weighted_choices_without_scores_are_uniform() -> None:
    picker, rng = WeightedRandomPicker(wanted(1)), Random(7)
    counts = Counter(picker.pick(np.zeros(4), rng)[0] for _ in range(8000))
    assert all(share / 8000 == pytest.approx(0.25, abs=0.02) for share in counts.values())


def test_a_score_of_nothing_is_taken_last() -> None:
    picker = WeightedRandomPicker(wanted(3))
    assert picker.pick(np.array([0.0, 1e-300, 2.0]), Random(1))[2] == 0


def test_any_endpoint_is_as_likely_at_random() -> None:
    picker, rng = RandomPicker(wanted(2)), Random(3)
    counts: Counter[int] = Counter()
    for _ in range(4000):
        rows = picker.pick(np.array([9.0, 0.0, 1.0, 2.0]), rng)
        assert len(set(rows)) == 2
        counts.update(rows)
    assert all(times / 8000 == pytest.approx(0.25, abs=0.02) for times in counts.values())
