"""How long to wait before trying again."""

from random import Random


def retry_delay_s(
    attempt: int, rng: Random, *, first_s: float = 0.05, longest_s: float = 2.0
) -> float:
    """Delay before retry number `attempt` (0 is the first): doubling, capped, with full jitter.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015; half of the delay is kept
    fixed so that a retry is never immediate.
    """
    ceiling: float = min(longest_s, first_s * 2.0 ** min(attempt, 32))
    return ceiling * (0.5 + rng.random() / 2)
