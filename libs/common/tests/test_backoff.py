from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.backoff import retry_delay_s


@given(st.integers(0, 10_000), st.integers())
def test_a_delay_is_never_immediate_and_never_above_the_longest(attempt: int, seed: int) -> None:
    delay = retry_delay_s(attempt, Random(seed), first_s=0.1, longest_s=2.0)
    ceiling = min(2.0, 0.1 * 2 ** min(attempt, 32))
    assert ceiling / 2 <= delay <= ceiling


def test_delays_double_until_the_longest() -> None:
    low = [retry_delay_s(attempt, _Lowest(), first_s=0.1, longest_s=0.5) for attempt in range(5)]
    assert low == [0.05, 0.1, 0.2, 0.25, 0.25]


class _Lowest(Random):
    def random(self) -> float:
        return 0.0
