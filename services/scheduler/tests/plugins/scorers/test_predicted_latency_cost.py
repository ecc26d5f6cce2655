from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pointsman_common.in_flight import Lease, LeaseTable
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_scheduler.plugins.scorers.predicted_latency_cost import (
    FEW,
    Parameters,
    PredictedLatencyCostScorer,
)
from pointsman_scheduler.testing import NOW, a_request, candidates_of

SCORER = PredictedLatencyCostScorer(Parameters())
o, w, p, q, b, c = 0.002, 0.007, 45e-6, 1.3e-9, 30e-6, 0.052e-6
BUDGET, K, N = 2048, 400_000, 256  # the builders' endpoints report 25,000 blocks of 16 tokens


class Case(NamedTuple):
    prefilling: int
    serving: int
    tokens: int
    """Uncached, of each request that is being prefilled."""
    prompt: int
    """Tokens of each request that is being served."""
    length: int
    blocks: int
    """Cached, of 64 tokens."""
    kv: float
    out: float


CASES = [
    Case(0, 0, 0, 0, 1000, 0, 0.0, 200.0),
    Case(0, 0, 0, 0, 1000, 10, 0.0, 200.0),
    Case(3, 20, 700, 2500, 8000, 50, 0.4, 350.0),
    Case(10, 100, 9000, 3000, 30_000, 3, 0.95, 90.0),
    Case(200, 100, 10, 100, 10, 0, 0.1, 200.0),
    Case(0, 2040, 0, 10, 4096, 64, 0.9, 200.0),
    Case(1, 1, 5, 5, 0, 0, 0.5, 200.0),
]


def by_hand(case: Case) -> tuple[float, float]:
    """Cost and time to first token, written as the formula is."""
    L, kv = case.length, case.kv  # noqa: N806  (the letters of the formula)
    h = min(case.blocks * 64, max(L - 1, 0))
    n = L - h
    P, Q = case.prefilling * case.tokens, case.prefilling  # noqa: N806
    B, C = case.serving, case.serving * case.prompt  # noqa: N806
    d = b * B + c * C
    S = p * n + q * n * (h + n / 2)  # noqa: N806
    W = p * P + (1 + (P + n) / max(BUDGET - B, 64)) * (o + d)  # noqa: N806
    X = (0.02 * B + 1.0 * Q) * S  # noqa: N806
    D = 0.1 * case.out * (d + B * (c * L + b))  # noqa: N806
    step = o + max(w, p * B) + d
    lack = max(0.0, (kv * K + P + L - K) / (kv * K + 1), (B + Q + 1 - N) / N)
    Z = 5.0 * max(0.0, p * P - 1.2 * p * P - 0.5)  # noqa: N806  (alone it is the mean)
    return W + S + X + Z + D + 0.3 * case.out * step * lack, W + S


def loaded(prefilling: int, serving: int, *, tokens: int, prompt: int) -> LeaseTable:
    leases = LeaseTable()
    for number in range(prefilling + serving):
        lease_id = f"l{number}"
        leases.reserve(
            Lease(lease_id, "", POOL, "e1", prompt_tokens=prompt, prefill_tokens=tokens), NOW
        )
        if number < serving:
            leases.serve(lease_id)
    return leases


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_formula(case: Case) -> None:
    leases = loaded(case.prefilling, case.serving, tokens=case.tokens, prompt=case.prompt)
    candidates = candidates_of([an_endpoint(1, kv=case.kv)], cached=[case.blocks], leases=leases)
    request = a_request(
        prompt_tokens=case.length,
        block_hashes=range(case.blocks),
        mean_output_tokens=case.out,
    )
    prediction = SCORER.predict(request, candidates)
    cost, ttft = by_hand(case)
    assert prediction.cost_s[0] == pytest.approx(cost, rel=1e-9)
    assert prediction.ttft_s[0] == pytest.approx(ttft, rel=1e-9)


def test_the_score_is_the_lowest_cost_over_the_cost() -> None:
    leases = loaded(2, 3, tokens=500, prompt=800)
    candidates = candidates_of([an_endpoint(1), an_endpoint(2)], leases=leases)
    request = a_request(prompt_tokens=1000)
    costs = SCORER.predict(request, candidates).cost_s
    assert costs[1] < costs[0]
    assert SCORER.score(request, candidates).tolist() == [costs[1] / costs[0], 1.0]


def test_prefill_backlog_is_seen_where_queue_and_cache_are_not() -> None:
    leases = loaded(1, 0, tokens=80_000, prompt=80_000)
    endpoints = [an_endpoint(1, waiting=0, kv=0.1), an_endpoint(2, waiting=3, kv=0.5)]
    score = SCORER.score(a_request(), candidates_of(endpoints, leases=leases))
    assert score[1] == 1.0
    assert score[0] < 0.01


def test_an_unknown_or_old_cache_use_is_read_from_the_leases() -> None:
    leases = loaded(0, 10, tokens=0, prompt=38_000)
    request = a_request(prompt_tokens=30_000)
    full = SCORER.predict(request, candidates_of([an_endpoint(1, kv=0.95)], leases=leases)).cost_s
    for endpoint in (an_endpoint(1, kv=None), an_endpoint(1, kv=0.0, read_at=None)):
        cost = SCORER.predict(request, candidates_of([endpoint], leases=leases)).cost_s
        assert cost == pytest.approx(full, rel=1e-6)


def test_an_adapter_that_is_not_in_use_costs_its_load_time() -> None:
    request = replace(a_request(), lora="sql")
    candidates = candidates_of([an_endpoint(1, active_loras=["sql"]), an_endpoint(2)])
    costs = SCORER.predict(request, candidates).cost_s
    assert costs[1] - costs[0] == pytest.approx(0.05)


LOADS = st.tuples(st.integers(0, 3), st.integers(0, 300), st.integers(1, 40_000))


@given(
    st.lists(
        st.tuples(
            LOADS,
            st.one_of(st.none(), st.floats(0.0, 1.0)),
            st.integers(0, 40),
            st.sampled_from([NOW, NOW - 3.0]),
        ),
        min_size=1,
        max_size=FEW,
    ),
    st.integers(0, 200_000),
    st.one_of(st.none(), st.floats(0.0, 1e4)),
)
def test_few_candidates_cost_to_the_last_bit_what_they_cost_among_many(
    some: list[tuple[tuple[int, int, int], float | None, int, float]],
    length: int,
    mean: float | None,
) -> None:
    leases, endpoints = LeaseTable(), []
    for number, ((prefilling, serving, tokens), kv, _, read_at) in enumerate(some):
        endpoints.append(an_endpoint(number, kv=kv, read_at=read_at))
        for which, count in enumerate((prefilling, serving)):
            for lease in range(min(count, 4)):
                lease_id = f"{number}-{which}-{lease}"
                leases.reserve(Lease(lease_id, "", POOL, f"e{number}", tokens * count, tokens), NOW)
                if which:
                    leases.serve(lease_id)
    cached = [blocks for _, _, blocks, _ in some]
    request = a_request(prompt_tokens=length, mean_output_tokens=mean)
    request = replace(request, ttft_slo_s=0.5)
    # How crowded an endpoint is depends on the others.
    scorer = PredictedLatencyCostScorer(Parameters(crowding_weight=0.0))
    few = scorer.predict(request, candidates_of(endpoints, cached=cached, leases=leases))
    idle = [an_endpoint(number, kv=0.5) for number in range(len(some), FEW + 1)]
    many = scorer.predict(
        request,
        candidates_of(endpoints + idle, cached=cached + [0] * len(idle), leases=leases),
    )
    assert few.cost_s.tolist() == many.cost_s.tolist()[: len(some)]
    assert few.ttft_s.tolist() == many.ttft_s.tolist()[: len(some)]
