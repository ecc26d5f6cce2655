from collections.abc import Sequence
from typing import Any

import pytest

from pointsman_common.endpoint import Endpoint
from pointsman_common.in_flight import Lease, LeaseTable
from pointsman_common.plugin_catalogue import build_plugin
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_scheduler.core.plugin_protocols import Filter
from pointsman_scheduler.plugins.catalogue import PLUGINS
from pointsman_scheduler.testing import NOW, a_request, candidates_of


def kept(
    kind: str,
    endpoints: Sequence[Endpoint],
    parameters: dict[str, Any] | None = None,
    *,
    leases: LeaseTable | None = None,
    cached: Sequence[int] | None = None,
    **request: Any,
) -> list[bool]:
    plugin = build_plugin(PLUGINS, kind, kind, parameters)
    assert isinstance(plugin, Filter)
    candidates = candidates_of(endpoints, leases=leases, cached=cached)
    mask: list[bool] = plugin.keep(a_request(**request), candidates).tolist()
    return mask


def labelled(*labels: dict[str, str]) -> list[Endpoint]:
    return [an_endpoint(index, labels=some) for index, some in enumerate(labels, start=1)]


def by_role(*roles: str | None) -> list[Endpoint]:
    return labelled(*({"llm-d.ai/role": role} if role else {} for role in roles))


ROLES = (None, "decode", "prefill", "both", "prefill-decode", "encode", "encode-prefill", "other")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("decode-filter", [True, True, False, True, True, False, False, False]),
        ("prefill-filter", [False, False, True, True, True, False, True, False]),
        ("encode-filter", [False, False, False, False, False, True, True, False]),
    ],
)
def test_roles(kind: str, expected: list[bool]) -> None:
    assert kept(kind, by_role(*ROLES)) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, [True, True, True]),
        ({"matchLabels": {"gpu": "a"}}, [True, False, False]),
        (
            {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["a", "b"]}]},
            [True, True, False],
        ),
        (
            {"matchExpressions": [{"key": "gpu", "operator": "NotIn", "values": ["a"]}]},
            [False, True, True],
        ),
        ({"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}, [True, True, False]),
        ({"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}, [False, False, True]),
        (
            {
                "matchLabels": {"gpu": "b"},
                "matchExpressions": [{"key": "zone", "operator": "Exists"}],
            },
            [False, False, False],
        ),
    ],
)
@pytest.mark.parametrize("kind", ["label-selector-filter", "by-label-selector"])
def test_label_selectors(kind: str, selector: dict[str, Any], expected: list[bool]) -> None:
    assert kept(kind, labelled({"gpu": "a"}, {"gpu": "b"}, {}), selector) == expected


def test_by_label() -> None:
    endpoints = labelled({"gpu": "a"}, {"gpu": "b"}, {})
    assert kept("by-label", endpoints, {"label": "gpu", "validValues": ["a"]}) == [
        True,
        False,
        False,
    ]
    parameters = {"label": "gpu", "validValues": ["b"], "allowsNoLabel": True}
    assert kept("by-label", endpoints, parameters) == [False, True, True]


def leases_on(*counts: int, tokens: int = 0) -> LeaseTable:
    leases = LeaseTable()
    for index, count in enumerate(counts, start=1):
        for number in range(count):
            leases.reserve(
                Lease(f"{index}/{number}", "", POOL, f"e{index}", prefill_tokens=tokens), NOW
            )
    return leases


def test_utilization_conditions_hold_together_and_unknown_is_within() -> None:
    endpoints = [
        an_endpoint(1, waiting=5, kv=0.5),
        an_endpoint(2, waiting=6, kv=0.5),
        an_endpoint(3, waiting=0, kv=0.9),
        an_endpoint(4, waiting=None, kv=None),
    ]
    parameters: dict[str, Any] = {
        "conditions": [
            {"metric": "waiting-queue", "maxValue": 5},
            {"metric": "kv-cache-utilization", "maxValue": 0.8},
        ]
    }
    assert kept("utilization-filter", endpoints, parameters) == [True, False, False, True]
    assert kept("utilization-filter", endpoints[1:3], parameters) == [False, False]
    parameters["fallbackOnEmpty"] = True
    assert kept("utilization-filter", endpoints[1:3], parameters) == [True, True]
    active = {"conditions": [{"metric": "active-requests", "maxValue": 1}]}
    assert kept("utilization-filter", endpoints[:2], active, leases=leases_on(1, 2)) == [
        True,
        False,
    ]


def test_the_utilization_detector_falls_back_to_all() -> None:
    endpoints = [an_endpoint(1, waiting=4), an_endpoint(2, waiting=5), an_endpoint(3, kv=0.8)]
    assert kept("utilization-detector", endpoints) == [True, False, False]
    assert kept("utilization-detector", endpoints[1:]) == [True, True]
    assert kept("utilization-detector", endpoints, {"headroom": 0.2}) == [True, True, True]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("requests", [True, False]), ("tokens", [True, True]), ("hybrid", [True, True])],
)
def test_the_concurrency_detector_may_leave_none(mode: str, expected: list[bool]) -> None:
    parameters = {"maxConcurrency": 2, "maxTokenConcurrency": 100, "concurrencyMode": mode}
    endpoints = [an_endpoint(1), an_endpoint(2)]
    leases = leases_on(1, 2, tokens=20)
    assert kept("concurrency-detector", endpoints, parameters, leases=leases) == expected


def test_most_of_the_prompt_makes_an_endpoint_sticky() -> None:
    endpoints, prompt = [an_endpoint(1), an_endpoint(2)], list(range(10))
    kind = "prefix-cache-affinity-filter"
    assert kept(kind, endpoints, cached=[8, 7], block_hashes=prompt) == [True, False]
    assert kept(kind, endpoints, cached=[7, 7], block_hashes=prompt) == [True, True]
    assert kept(kind, endpoints) == [True, True]
    explores = {"explorationProbability": 1.0}
    assert kept(kind, endpoints, explores, cached=[8, 7], block_hashes=prompt) == [True, True]


def test_sticking_is_given_up_when_it_costs_too_much() -> None:
    kind, endpoints = "prefix-cache-affinity-filter", [an_endpoint(1), an_endpoint(2)]
    leases = leases_on(1, 0, tokens=20_000)
    parameters = {"peakPrefillThroughput": 10_000, "maxTTFTPenaltyMs": 1_999}
    state: dict[str, Any] = {"leases": leases, "cached": [1, 0], "block_hashes": [1]}
    assert kept(kind, endpoints, parameters, **state) == [True, True]
    parameters["maxTTFTPenaltyMs"] = 2_000
    assert kept(kind, endpoints, parameters, **state) == [True, False]


def test_the_testing_filter_keeps_what_the_header_names() -> None:
    endpoints = [an_endpoint(1), an_endpoint(2), an_endpoint(3)]
    header = {"test-epp-endpoint-selection": "10.0.0.3, 10.0.0.1:8000"}
    kind = "header-based-testing-filter"
    assert kept(kind, endpoints, headers=header) == [True, False, True]
    assert kept(kind, endpoints) == [False, False, False]
