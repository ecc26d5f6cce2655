from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.endpoint import Endpoint
from pointsman_common.in_flight import Lease, LeaseTable
from pointsman_common.plugin_catalogue import build_plugin
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_scheduler.core.config import Catalogue
from pointsman_scheduler.core.plugin_protocols import Scorer
from pointsman_scheduler.plugins.catalogue import PLUGINS
from pointsman_scheduler.testing import NOW, a_request, candidates_of

CATALOGUE: Catalogue = PLUGINS


def scorer(kind: str, **parameters: Any) -> Scorer:
    plugin = build_plugin(CATALOGUE, kind, kind, parameters)
    assert isinstance(plugin, Scorer)
    return plugin


def waiting(*queues: int | None) -> list[Endpoint]:
    return [an_endpoint(index, waiting=queue) for index, queue in enumerate(queues, start=1)]


def leased(*counts: int, tokens: int = 0) -> LeaseTable:
    """So many leases on each endpoint, of `tokens` uncached tokens each."""
    leases = LeaseTable()
    for index, count in enumerate(counts, start=1):
        for number in range(count):
            leases.reserve(
                Lease(f"{index}/{number}", "", POOL, f"e{index}", prefill_tokens=tokens), NOW
            )
    return leases


def scored(
    plugin: Scorer,
    endpoints: Sequence[Endpoint],
    *,
    cached: Sequence[int] | None = None,
    leases: LeaseTable | None = None,
    **request: Any,
) -> list[float]:
    candidates = candidates_of(endpoints, cached=cached, leases=leases)
    result: list[float] = plugin.score(a_request(**request), candidates).tolist()
    return result


def test_queue_is_scored_between_longest_and_shortest() -> None:
    assert scored(scorer("queue-scorer"), waiting(3, 0, 10)) == [0.7, 1.0, 0.0]
    assert scored(scorer("queue-scorer"), waiting(4, 4)) == [1.0, 1.0]


def test_running_requests_are_scored_alike() -> None:
    endpoints = [an_endpoint(1, running=2), an_endpoint(2, running=6)]
    assert scored(scorer("running-requests-size-scorer"), endpoints) == [1.0, 0.0]


def test_free_cache_is_scored_as_it_is() -> None:
    endpoints = [an_endpoint(1, kv=0.25), an_endpoint(2, kv=1.0)]
    assert scored(scorer("kv-cache-utilization-scorer"), endpoints) == [0.75, 0.0]


def test_load_is_scored_on_an_absolute_scale() -> None:
    assert scored(scorer("load-aware-scorer"), waiting(0, 64, 128, 500)) == [0.5, 0.25, 0.0, 0.0]
    assert scored(scorer("load-aware-scorer", threshold=10), waiting(5)) == [0.25]


def test_an_unknown_metric_is_scored_by_in_flight_load_alone() -> None:
    leases = leased(0, 4, 2)
    for kind, endpoints in (
        ("queue-scorer", waiting(5, 0, None)),
        ("load-aware-scorer", waiting(5, 0, None)),
    ):
        assert scored(scorer(kind), endpoints, leases=leases)[2] == 0.5
    endpoints = [an_endpoint(1, kv=None), an_endpoint(2, kv=0.5)]
    assert scored(scorer("kv-cache-utilization-scorer"), endpoints, leases=leased(1, 0)) == [0, 0.5]


def test_as_metrics_age_in_flight_load_takes_over() -> None:
    leases = leased(0, 4)
    old = [an_endpoint(1, waiting=9, read_at=NOW - 6.0), an_endpoint(2, read_at=NOW - 6.0)]
    assert scored(scorer("queue-scorer"), old, leases=leases) == [0.5, 0.5]
    never = [an_endpoint(1, waiting=9, read_at=None), an_endpoint(2, read_at=None)]
    assert scored(scorer("queue-scorer"), never, leases=leases) == [1.0, 0.0]


def test_prefix_is_scored_by_its_share_of_the_prompt() -> None:
    plugin = scorer("prefix-cache-scorer")
    endpoints = waiting(0, 0, 0)
    assert scored(plugin, endpoints, cached=[0, 2, 4], block_hashes=[1, 2, 3, 4]) == [0, 0.5, 1]
    assert scored(plugin, endpoints) == [0, 0, 0]


def test_prefix_may_be_scored_by_its_length_too() -> None:
    plugin = scorer(
        "prefix-cache-scorer", matchLengthWeight=0.5, matchLengthScaleTokens=256
    )  # blocks of 64 tokens
    got = scored(plugin, waiting(0, 0), cached=[2, 4], block_hashes=[1, 2, 3, 4])
    assert got == [0.5 * 0.5 + 0.5 * 0.25, 1.0]


def test_active_requests_are_scored_against_the_most() -> None:
    endpoints, leases = waiting(0, 0, 0), leased(0, 1, 4)
    assert scored(scorer("active-request-scorer"), endpoints, leases=leases) == [1.0, 0.75, 0.0]
    plugin = scorer("active-request-scorer", idleThreshold=1, maxBusyScore=0.5)
    assert scored(plugin, endpoints, leases=leased(1, 2, 4)) == [1.0, 0.25, 0.0]
    assert scored(scorer("active-request-scorer"), endpoints) == [1.0, 1.0, 1.0]


def test_token_load_counts_this_requests_uncached_tokens() -> None:
    plugin = scorer("token-load-scorer", queueThresholdTokens=1000)
    leases = leased(1, 0, 0, tokens=500)
    got = scored(
        plugin,
        waiting(0, 0, 0),
        leases=leases,
        cached=[0, 0, 1],
        prompt_tokens=100,
        block_hashes=[1],
    )
    assert got == pytest.approx([0.4, 0.9, 0.964])
    assert scored(plugin, waiting(0), prompt_tokens=0) == [1.0]


def test_cold_prompts_go_where_none_went_for_longest() -> None:
    plugin = scorer("no-hit-lru-scorer")
    candidates = candidates_of(waiting(0, 0, 0))
    request = a_request()
    assert plugin.score(request, candidates).tolist() == [1.0, 0.5, 0.0]
    plugin.picked(request, candidates, candidates.endpoints[0])  # type: ignore[attr-defined]  # it observes too
    assert plugin.score(request, candidates).tolist() == [0.0, 1.0, 0.5]
    plugin.picked(request, candidates, candidates.endpoints[1])  # type: ignore[attr-defined]  # it observes too
    assert plugin.score(request, candidates).tolist() == [0.5, 0.0, 1.0]


def test_warm_prompts_have_no_opinion_and_leave_the_order_alone() -> None:
    plugin = scorer("no-hit-lru-scorer")
    warm = candidates_of(waiting(0, 0), cached=[1, 0])
    assert plugin.score(a_request(request_id="r2"), warm).tolist() == [0.5, 0.5]
    plugin.picked(a_request(request_id="r2"), warm, warm.endpoints[0])  # type: ignore[attr-defined]  # it observes too
    assert plugin.score(a_request(request_id="r3"), candidates_of(waiting(0, 0))).tolist() == [
        1.0,
        0.0,
    ]


@pytest.mark.parametrize(
    ("label", "score"),
    [
        (None, 0.5),
        ("nonsense", 0.0),
        ("9-1", 0.0),
        ("100-100", 1.0),
        ("0-10000", 0.3 + 0.7 * (0.7 / 2 + 0.3 * 0.99)),
        ("1100-2000", 0.3 / 2),
        ("0-50", 0.3 / 1.05),
    ],
)
def test_context_length_ranges(label: str | None, score: float) -> None:
    labels = {} if label is None else {"llm-d.ai/context-length-range": label}
    plugin = scorer("context-length-aware")
    assert scored(plugin, [an_endpoint(1, labels=labels)], prompt_tokens=100) == [
        pytest.approx(score)
    ]


METRICS = st.lists(
    st.tuples(
        st.none() | st.integers(0, 500),
        st.none() | st.floats(0, 1),
        st.none() | st.floats(0, 100),
        st.integers(0, 20),
    ),
    min_size=1,
    max_size=20,
)


NEEDED: dict[str, dict[str, Any]] = {
    "header-label-affinity-scorer": {"headerName": "x-zone", "labelKey": "zone"},
    "endpoint-attribute-scorer": {
        "attributeKey": "gpu",
        "algorithm": {"type": "linear_lower_is_better"},
    },
}
"""Parameters without a default."""


@pytest.mark.parametrize(
    "kind",
    sorted(kind for kind in PLUGINS if kind.endswith("-scorer") or kind == "context-length-aware"),
)
@given(states=METRICS, cached=st.integers(0, 4), prompt=st.integers(0, 1000))
def test_every_score_is_between_0_and_1(
    kind: str,
    states: list[tuple[int | None, float | None, float | None, int]],
    cached: int,
    prompt: int,
) -> None:
    endpoints = [
        an_endpoint(
            index, waiting=queue, running=queue, kv=kv, read_at=None if age is None else NOW - age
        )
        for index, (queue, kv, age, _) in enumerate(states, start=1)
    ]
    got = np.array(
        scored(
            scorer(kind, **NEEDED.get(kind, {})),
            endpoints,
            leases=leased(*(count for *_, count in states), tokens=37),
            cached=[cached] + [0] * (len(endpoints) - 1),
            prompt_tokens=prompt,
            block_hashes=[1, 2, 3, 4],
        )
    )
    assert got.shape == (len(endpoints),)
    assert ((got >= 0) & (got <= 1)).all()
