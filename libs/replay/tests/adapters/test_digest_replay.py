"""The datalayer's digests over a generated trace: they follow the load and do not flap."""

import math
from functools import cache
from random import Random

from pointsman_replay.adapters.digest_replay import DigestConditions, replay_digest
from pointsman_replay.core.digest_report import DigestRun
from pointsman_replay.core.trace import Trace, TraceRequest
from pointsman_replay.core.trace_copies import copies_for, overlaid
from pointsman_simulator.core.engine_profile import H100_8B

SPAN_S = 1500.0
MOST = 6


def a_wave() -> Trace:
    """Twenty-five minutes: calm, a hump of eight times as much, calm; Poisson arrivals."""
    rng, at_s = Random("wave"), 0.0
    requests: list[TraceRequest] = []
    while at_s < SPAN_S:
        hump = math.exp(-(((at_s - 500.0) / 180.0) ** 2))
        at_s += rng.expovariate(1.0 + 7.0 * hump)
        requests.append(TraceRequest(at_s, rng.randint(1000, 4000), rng.randint(10, 60)))
    return Trace("wave", 0, tuple(requests))


@cache
def the_run() -> DigestRun:
    return replay_digest(a_wave(), DigestConditions(engine=H100_8B, most_replicas=MOST, load=0.07))


def recommended_at(at_s: float) -> int:
    return [count for then, count in the_run().recommendations if then <= at_s][-1]


def test_the_recommendation_rises_with_the_load_and_falls_after_it() -> None:
    assert recommended_at(600.0) > recommended_at(1450.0)
    assert recommended_at(1450.0) == 1


def test_it_turns_round_at_most_once_in_five_minutes() -> None:
    assert the_run().most_changes <= 1


def test_it_stays_within_its_bounds_and_the_pool_follows() -> None:
    run = the_run()
    assert {count for _, count in run.recommendations} <= set(range(1, MOST + 1))
    assert run.points[-1].ready == 1
    assert max(point.ready for point in run.points) >= recommended_at(600.0)


def test_the_predicted_utilization_is_near_the_true_one() -> None:
    run = the_run()
    near = [
        point.utilization / (run.load_at(point.at_s, 60.0) / point.ready)
        for point in run.points
        if point.utilization is not None and 300.0 < point.at_s < 800.0
    ]
    assert 0.6 < sum(near) / len(near) < 1.7


def test_the_same_seed_gives_the_same_points() -> None:
    short = Trace("wave", 0, a_wave().requests[:200])
    conditions = DigestConditions(engine=H100_8B, most_replicas=2, load=0.3, follow=False)
    first, second = replay_digest(short, conditions), replay_digest(short, conditions)
    assert first == second
    assert {point.ready for point in first.points} == {2}


def test_copies_multiply_the_load_and_keep_its_shape() -> None:
    trace = a_wave()
    twice = overlaid(trace, 2, Random(1))
    assert len(twice.requests) == 2 * len(trace.requests)
    times = [one.at_s for one in twice.requests]
    assert times == sorted(times)
    busy = sum(the_load := [one.work for one in the_run().points]) / len(the_load)
    assert copies_for(trace, H100_8B, engines=4 * busy) == 4
    assert copies_for(trace, H100_8B, engines=0.1 * busy) == 1
