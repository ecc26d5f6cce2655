"""How arrivals are spread and scaled, and what is left out."""

from random import Random

import pytest

from pointsman_replay.core.trace import (
    ReplayError,
    Trace,
    TraceRequest,
    fitting,
    scaled_to_span,
    spread,
)


def a_trace(times: list[float], *, block: int = 0, prompt: int = 10) -> Trace:
    return Trace("t", block, tuple(TraceRequest(at, prompt, 1) for at in times))


def times(trace: Trace) -> list[float]:
    return [one.at_s for one in trace.requests]


GRID = [0.0] * 10 + [3.0] * 5 + [9.0] * 10


def test_arrivals_on_a_grid_are_spread_over_the_cell_that_each_begins() -> None:
    spread_times = times(spread(a_trace(GRID), Random(1)))
    assert spread_times == sorted(spread_times)
    assert len(set(spread_times)) == len(GRID)
    assert all(0.0 <= at <= 3.0 for at in spread_times[:10])
    assert all(3.0 <= at <= 9.0 for at in spread_times[10:15])
    assert all(9.0 <= at <= 15.0 for at in spread_times[15:])  # as long as the cell before


def test_the_same_seed_spreads_the_same_way_and_another_does_not() -> None:
    trace = a_trace(GRID)
    assert spread(trace, Random(1)) == spread(trace, Random(1))
    assert times(spread(trace, Random(1))) != times(spread(trace, Random(2)))


def test_the_report_is_told_of_the_spreading() -> None:
    assert "grid of about 3.0 s" in spread(a_trace(GRID), Random(1)).notes[0]


def test_arrivals_off_any_grid_are_left_alone() -> None:
    trace = a_trace([0.0, 0.0, 1.1, 2.7, 3.0])
    assert spread(trace, Random(1)) is trace


def test_scaling_keeps_the_proportions_and_begins_at_zero() -> None:
    assert times(scaled_to_span(a_trace([5.0, 6.0, 9.0]), 8.0)) == [0.0, 2.0, 8.0]


def test_arrivals_all_at_once_stay_so_when_scaled() -> None:
    assert times(scaled_to_span(a_trace([5.0, 5.0]), 8.0)) == [0.0, 0.0]


def test_requests_longer_than_the_cache_are_left_out_and_counted() -> None:
    trace = Trace("t", 16, (TraceRequest(0.0, 63, 1), TraceRequest(1.0, 64, 1)))
    kept = fitting(trace, 64)
    assert times(kept) == [0.0]
    assert kept.notes == ("1 requests left out, longer than the engine's KV cache",)


def test_a_trace_of_which_nothing_fits_is_refused() -> None:
    with pytest.raises(ReplayError, match="no request fits"):
        fitting(a_trace([0.0], block=16, prompt=100), 64)
