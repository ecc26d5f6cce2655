"""Demand in engine time: rates, the learned speed, and bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.in_flight import Lease
from pointsman_datalayer.core.pool_demand import (
    LEARNED_AFTER,
    MOST_MODELS,
    MOST_OPEN,
    PREFILL_TOKEN_S,
    STEP_S,
    DecayingRate,
    Demand,
    DemandBook,
    EngineSpeed,
    sum_up,
)

POOL = "default/llama"


def a_lease(number: int, *, tokens: int = 1000, model: str = "llama", pool: str = POOL) -> Lease:
    return Lease(
        lease_id=f"l{number}",
        edge="e",
        pool=pool,
        endpoint="e1",
        prompt_tokens=tokens,
        prefill_tokens=tokens,
        model=model,
    )


def serve(
    book: DemandBook, count: int, *, per_s: float, slow: float = 1.0, output: int = 0
) -> Demand:
    """Requests of 1000 tokens, evenly, each alone on an engine that is so many times slower."""
    now = 0.0
    for number in range(count):
        now = number / per_s
        book.picked(a_lease(number), ahead_tokens=1000, now=now)
        book.first_token(f"l{number}", slow * (STEP_S + 1000 * PREFILL_TOKEN_S))
        book.finished(
            f"l{number}", prompt_tokens=1000, cached_tokens=0, output_tokens=output, now=now
        )
    return book.demand(POOL, now)


@pytest.mark.parametrize("slow", [0.5, 1.0, 4.0])
def test_work_is_engine_time_at_the_speed_that_was_seen(slow: float) -> None:
    demand = serve(DemandBook(), 1200, per_s=10.0, slow=slow)
    assert demand.requests_per_s == pytest.approx(10.0, rel=0.05)
    assert demand.work_per_s == pytest.approx(10.0 * slow * 1000 * PREFILL_TOKEN_S, rel=0.05)
    assert demand.own_ttft_s == pytest.approx(slow * (STEP_S + 1000 * PREFILL_TOKEN_S))


def test_answers_count_as_work_when_they_end() -> None:
    plain, chatty = (serve(DemandBook(), 600, per_s=10.0, output=out) for out in (0, 500))
    assert plain.work_per_s is not None
    assert chatty.work_per_s is not None
    each_s = 500 * (30e-6 + 0.052e-6 * 1000)
    assert chatty.work_per_s - plain.work_per_s == pytest.approx(10.0 * each_s, rel=0.05)


def test_a_prefix_that_was_cached_is_taken_back_at_the_end() -> None:
    book = DemandBook()
    serve(book, 100, per_s=1000.0)
    before = book.demand(POOL, 0.1).work_per_s
    book.picked(a_lease(1000, tokens=50_000), ahead_tokens=50_000, now=0.1)
    book.finished("l1000", prompt_tokens=50_000, cached_tokens=50_000, output_tokens=0, now=0.1)
    assert book.demand(POOL, 0.1).work_per_s == pytest.approx(before)


def test_nothing_is_said_of_work_before_enough_first_tokens_were_seen() -> None:
    assert serve(DemandBook(), LEARNED_AFTER - 1, per_s=10.0).work_per_s is None
    assert serve(DemandBook(), LEARNED_AFTER, per_s=10.0).work_per_s is not None


def test_short_prompts_tell_nothing_of_the_speed() -> None:
    book = DemandBook()
    for number in range(100):
        book.picked(a_lease(number, tokens=10), ahead_tokens=10, now=0.0)
        book.first_token(f"l{number}", 5.0)
    assert book.demand(POOL, 0.0).work_per_s is None


def test_a_first_token_behind_a_backlog_does_not_make_the_engine_slow() -> None:
    book = DemandBook()
    for number in range(50):
        book.picked(a_lease(number), ahead_tokens=40_000, now=0.0)
        book.first_token(f"l{number}", STEP_S + 40_000 * PREFILL_TOKEN_S)
    demand = book.demand(POOL, 0.0)
    assert demand.prefill_token_s == pytest.approx(PREFILL_TOKEN_S)


def test_one_late_answer_moves_a_learned_speed_little() -> None:
    speed = EngineSpeed()
    for _ in range(100):
        speed.observe(predicted_s=1.0, observed_s=1.0)
    speed.observe(predicted_s=1.0, observed_s=1e6)
    assert speed.factor == pytest.approx(1.0, rel=0.06)


def test_what_is_told_twice_counts_once_and_provisional_leases_do_not() -> None:
    book = DemandBook()
    for _ in range(3):
        book.picked(a_lease(1), ahead_tokens=1000, now=0.0)
    once = book.demand(POOL, 0.0).requests_per_s
    other = DemandBook()
    other.picked(a_lease(1), ahead_tokens=1000, now=0.0)
    assert once == other.demand(POOL, 0.0).requests_per_s


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-5, 50)), max_size=50))
def test_a_rate_is_never_negative_and_decays(steps: list[tuple[float, float]]) -> None:
    rate, now = DecayingRate(0.0), 0.0
    for wait_s, amount in steps:
        now += wait_s
        rate.add(amount, now)
        assert rate.per_s(now) >= 0.0
    assert rate.per_s(now + 1e4) <= rate.per_s(now) + 1e-9


def test_models_pools_and_open_requests_are_bounded() -> None:
    book = DemandBook()
    for number in range(MOST_OPEN + 10):
        book.picked(a_lease(number, model=f"m{number}"), ahead_tokens=0, now=0.0)
    assert len(book._open) == MOST_OPEN
    assert len(book.demand(POOL, 0.0).models) == MOST_MODELS
    book.keep_only([])
    assert book.demand(POOL, 0.0) == Demand()


def test_open_leases_are_summed_up_by_pool_and_model() -> None:
    leases = [a_lease(1), a_lease(2, model="sql"), a_lease(3, pool="default/other")]
    found = sum_up(leases)
    assert found[POOL].prefill_tokens == 2000
    assert found[POOL].by_model == {"llama": 1, "sql": 1}
    assert found["default/other"].by_model == {"llama": 1}
