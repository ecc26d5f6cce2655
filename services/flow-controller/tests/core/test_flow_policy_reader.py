import math
from typing import Any

import pytest
import yaml

from pointsman_common.endpoint_picker_config import parse_endpoint_picker_config
from pointsman_common.errors import SettingsError
from pointsman_common.testing.builders import an_endpoint
from pointsman_flow_controller.core.flow_policy import FlowPolicy
from pointsman_flow_controller.core.flow_policy_reader import FlowControlMode, read_flow_policy
from pointsman_flow_controller.core.plugin_protocols import PoolLoad
from pointsman_flow_controller.plugins.catalogue import catalogue
from pointsman_flow_controller.plugins.fairness.global_strict import GlobalStrictFairnessPolicy
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from pointsman_flow_controller.plugins.ordering.earliest_deadline import (
    EarliestDeadlineOrderingPolicy,
)
from pointsman_flow_controller.plugins.saturation.concurrency import ConcurrencyDetector
from pointsman_flow_controller.plugins.saturation.utilization import UtilizationDetector
from pointsman_flow_controller.plugins.usage_limits.priority_holdback import (
    PriorityHoldbackPolicy,
)

GATE_ON: dict[str, Any] = {"featureGates": ["flowControl"]}


def read(mode: FlowControlMode = "auto", floor_s: float = 0.0, **sections: Any) -> FlowPolicy:
    document = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig", **sections}
    config = parse_endpoint_picker_config(yaml.safe_dump(document))
    return read_flow_policy(config, catalogue(staleness_floor_s=floor_s), mode=mode)


def test_with_the_gate_off_nothing_queues() -> None:
    policy = read(flowControl={"defaultRequestTTL": "1s"})
    assert not policy.queueing
    assert policy.ttl_s == 60.0


@pytest.mark.parametrize(
    ("mode", "gate", "queueing"),
    [("on", [], True), ("off", ["flowControl"], False), ("auto", ["flowControl=false"], False)],
)
def test_the_setting_goes_before_the_gate(
    mode: FlowControlMode, gate: list[str], queueing: bool
) -> None:
    assert read(mode, featureGates=gate).queueing is queueing


def test_the_gate_alone_brings_upstreams_defaults() -> None:
    policy = read(**GATE_ON)
    assert isinstance(policy.band.make_fairness(), GlobalStrictFairnessPolicy)
    assert (policy.band.max_requests, policy.band.max_bytes) == (5_000, 1_000_000_000)
    assert (policy.ttl_s, policy.no_endpoint_ttl_s) == (60.0, 60.0)
    assert (policy.max_requests, policy.max_bytes) == (0, 0)
    assert policy.make_usage_limit().ceiling(0, [0]) == 1.0
    detector = policy.make_detector()
    assert isinstance(detector, UtilizationDetector)
    detector.observe([an_endpoint(read_at=10.0)], 10.2)
    assert detector.saturation(PoolLoad(), 10.2) == 0.0
    assert detector.saturation(PoolLoad(), 10.21) == 1.0


def test_every_field_of_the_section_counts() -> None:
    policy = read(
        **GATE_ON,
        plugins=[
            {"type": "round-robin-fairness-policy", "name": "rr"},
            {"type": "edf-ordering-policy"},
            {"type": "concurrency-detector", "parameters": {"maxConcurrency": 2}},
            {"type": "priority-holdback-policy", "parameters": {"minCeiling": 0.5}},
        ],
        flowControl={
            "maxBytes": "1Gi",
            "maxRequests": "10k",
            "defaultRequestTTL": "1m30s",
            "noEndpointRequestTTL": "500ms",
            "enableEviction": True,
            "usageLimitPolicyPluginRef": "priority-holdback-policy",
            "saturationDetector": {"pluginRef": "concurrency-detector"},
            "defaultPriorityBand": {"fairnessPolicyRef": "rr"},
            "defaultNegativePriorityBand": {"maxRequests": 7},
            "priorityBands": [
                {"priority": 5, "maxBytes": 10, "orderingPolicyRef": "edf-ordering-policy"}
            ],
        },
    )
    assert (policy.max_bytes, policy.max_requests) == (1 << 30, 10_000)
    assert (policy.ttl_s, policy.no_endpoint_ttl_s) == (90.0, 0.5)
    assert policy.evicts_in_flight
    assert isinstance(policy.make_usage_limit(), PriorityHoldbackPolicy)
    assert isinstance(policy.make_detector(), ConcurrencyDetector)
    assert isinstance(policy.band_policy(0).make_fairness(), RoundRobinFairnessPolicy)
    assert policy.band_policy(-3).max_requests == 7
    assert policy.band_policy(5).max_bytes == 10
    assert isinstance(policy.band_policy(5).ordering, EarliestDeadlineOrderingPolicy)


def test_a_ttl_of_zero_is_none_and_the_other_follows() -> None:
    policy = read(**GATE_ON, flowControl={"defaultRequestTTL": "0s"})
    assert (policy.ttl_s, policy.no_endpoint_ttl_s) == (math.inf, math.inf)


def test_a_band_without_bounds_has_the_default_ones() -> None:
    policy = read(**GATE_ON, flowControl={"priorityBands": [{"priority": 1, "maxRequests": 0}]})
    assert policy.band_policy(1).max_requests == 5_000


def test_the_detector_counts_with_the_gate_off_too() -> None:
    policy = read(
        plugins=[{"type": "concurrency-detector"}],
        saturationDetector={"pluginRef": "concurrency-detector"},
    )
    assert isinstance(policy.make_detector(), ConcurrencyDetector)


def test_metrics_under_the_floor_are_never_stale() -> None:
    detector = read(floor_s=2.0).make_detector()
    detector.observe([an_endpoint(read_at=10.0)], 10.0)
    assert detector.saturation(PoolLoad(), 12.0) == 0.0
    assert detector.saturation(PoolLoad(), 12.01) == 1.0


@pytest.mark.parametrize(
    ("plugin", "named"),
    [
        ({"type": "utilization-detector", "parameters": {"surprise": 1}}, "surprise"),
        (
            {"type": "utilization-detector", "parameters": {"metricsStalenessThreshold": "soon"}},
            "metricsStalenessThreshold",
        ),
        ({"type": "concurrency-detector", "parameters": {"maxConcurrency": 0}}, "maxConcurrency"),
        ({"type": "priority-holdback-policy"}, "minCeiling"),
        (
            {
                "type": "priority-holdback-policy",
                "parameters": {"minCeiling": 0.9, "maxCeiling": 0.8},
            },
            "minCeiling",
        ),
    ],
)
def test_bad_parameters_are_refused_even_of_a_plugin_that_is_not_used(
    plugin: dict[str, Any], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        read(plugins=[plugin])


def test_a_reference_to_a_plugin_of_another_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match="saturationDetector"):
        read(
            plugins=[{"type": "queue-scorer"}],
            saturationDetector={"pluginRef": "queue-scorer"},
        )


def test_plugins_of_other_layers_are_left_to_them() -> None:
    assert read(plugins=[{"type": "queue-scorer", "parameters": {"anything": 1}}])
