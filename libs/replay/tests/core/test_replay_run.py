"""Runs of tiny traces whose outcome can be worked out by hand."""

import pytest

from pointsman_replay.core.measures import ServiceLevel, measure
from pointsman_replay.core.policies.policy import QuietPolicy, Surroundings
from pointsman_replay.core.policies.simple import RoundRobin
from pointsman_replay.core.replay_run import ReplayRun, full_load_span_s
from pointsman_replay.core.trace import ReplayError, Trace, TraceRequest
from pointsman_simulator.core.engine_profile import EngineProfile

# 1 s for each step of decoding or of up to 100 tokens of prefill, and 0.01 s a token beyond.
SLOW = EngineProfile(
    name="slow",
    step_overhead_s=0.0,
    weights_s=1.0,
    token_s=0.01,
    decode_s=0.0,
    context_s=0.0,
    attention_s=0.0,
    kv_tokens=16_000,
    step_budget_tokens=1000,
)


class Refusing(QuietPolicy):
    """Takes every other request."""

    def __init__(self, surroundings: Surroundings) -> None:
        del surroundings

    def pick(self, number: int, request: TraceRequest) -> int | None:
        del request
        return None if number % 2 else 0


def a_trace(*requests: TraceRequest, block: int = 0) -> Trace:
    return Trace("t", block, requests)


def test_every_request_is_served_once_and_measured_from_its_arrival() -> None:
    trace = a_trace(TraceRequest(0.0, 200, 2), TraceRequest(0.5, 300, 1), TraceRequest(5.0, 50, 1))
    result = ReplayRun(trace, SLOW, 2, RoundRobin, seed="1").run()
    fared = [
        (one.row, one.arrived_at, one.first_token_at, one.finished_at) for one in result.served
    ]
    assert fared == [(0, 0.0, 2.0, 3.0), (1, 0.5, 3.5, 3.5), (0, 5.0, 6.0, 6.0)]


def test_the_measures_of_a_run_follow_from_its_requests() -> None:
    trace = a_trace(TraceRequest(0.0, 200, 2), TraceRequest(0.5, 300, 1), TraceRequest(5.0, 50, 1))
    result = ReplayRun(trace, SLOW, 2, RoundRobin, seed="1").run()
    measures = measure(result, ServiceLevel(ttft_s=2.5, tpot_s=1.5))
    assert measures.ttft_s.mean == pytest.approx((2.0 + 3.0 + 1.0) / 3)
    assert measures.ttft_s.p50 == pytest.approx(2.0)
    assert measures.ttft_s.max == pytest.approx(3.0)
    assert measures.e2e_s.mean == pytest.approx((3.0 + 3.0 + 1.0) / 3)
    assert measures.tpot_s.mean == pytest.approx(1.0)
    assert measures.in_slo == pytest.approx(2 / 3)
    assert measures.goodput_per_s == pytest.approx(2 / 6)
    assert measures.imbalance == pytest.approx(300 / 275)
    assert (measures.hit_ratio, measures.preemptions, measures.refused) == (0.0, 0, 0)


def test_prefix_hits_are_a_share_of_all_prompt_tokens() -> None:
    chain = (1, 2, 3)
    trace = a_trace(TraceRequest(0.0, 50, 1, chain), TraceRequest(10.0, 50, 1, chain), block=16)
    result = ReplayRun(trace, SLOW, 1, RoundRobin, seed="1").run()
    assert measure(result, ServiceLevel()).hit_ratio == pytest.approx(48 / 100)


def test_a_refused_request_reaches_no_engine_and_counts_against_the_service_level() -> None:
    trace = a_trace(*(TraceRequest(float(at), 10, 1) for at in range(4)))
    result = ReplayRun(trace, SLOW, 1, Refusing, seed="1").run()
    measures = measure(result, ServiceLevel())
    assert (measures.requests, measures.refused, measures.in_slo) == (2, 2, 0.5)


def test_a_run_that_serves_nobody_is_measured_all_the_same() -> None:
    class Closed(Refusing):
        def pick(self, number: int, request: TraceRequest) -> None:
            del number, request

    result = ReplayRun(a_trace(TraceRequest(0.0, 10, 1)), SLOW, 1, Closed, seed="1").run()
    measures = measure(result, ServiceLevel())
    assert (measures.requests, measures.refused, measures.in_slo) == (0, 1, 0.0)
    assert measures.ttft_s.mean == 0.0


def test_full_load_is_what_round_robin_drains() -> None:
    # Each of two engines has 12 prompts of 100 tokens: the first begins at once and ends at 1 s,
    # ten fill a step that ends at 11 s, the last ends at 12 s. The 95 % quantile of 24 ends lies
    # between the 22nd (11 s) and the 23rd (12 s).
    trace = a_trace(*(TraceRequest(float(at), 100, 1) for at in range(24)))
    assert full_load_span_s(trace, SLOW, 2) == pytest.approx(11.85 / 0.95)


def test_a_single_request_is_no_load() -> None:
    with pytest.raises(ReplayError, match="one request makes no load"):
        full_load_span_s(a_trace(TraceRequest(0.0, 1, 1)), SLOW, 2)


def test_progress_ends_at_one() -> None:
    told: list[float] = []
    trace = a_trace(*(TraceRequest(float(at), 10, 1) for at in range(600)))
    ReplayRun(trace, SLOW, 2, RoundRobin, seed="1").run(told.append)
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
    assert len(told) > 3
