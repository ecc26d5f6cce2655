import pytest

from pointsman_common.endpoint_picker_config import (
    DEFAULT_CONFIG,
    config_hash,
    parse_endpoint_picker_config,
)
from pointsman_common.errors import SettingsError

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def test_the_built_in_configuration_is_upstreams() -> None:
    config = parse_endpoint_picker_config(DEFAULT_CONFIG)
    [profile] = config.scheduling_profiles
    assert {ref.plugin_ref: ref.weight for ref in profile.plugins} == {
        "queue-scorer": 2,
        "kv-cache-utilization-scorer": 2,
        "prefix-cache-scorer": 3,
    }


def test_both_api_versions_are_read() -> None:
    for group in ("llm-d.ai", "inference.networking.x-k8s.io"):
        text = f"apiVersion: {group}/v1alpha1\nkind: EndpointPickerConfig\n"
        assert parse_endpoint_picker_config(text).plugins == ()


def test_a_plugin_without_a_name_bears_its_types() -> None:
    config = parse_endpoint_picker_config(
        HEAD + "plugins: [{type: queue-scorer}, {type: queue-scorer, name: second}]"
    )
    assert [plugin.name for plugin in config.plugins] == ["queue-scorer", "second"]
    second = config.plugin("second")
    assert second is not None
    assert second.type == "queue-scorer"
    assert config.plugin("third") is None


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ("a: [", "EndpointPickerConfig", "is not YAML"),
        ("", "EndpointPickerConfig", "object"),
        ("- a", "EndpointPickerConfig", "object"),
        (HEAD + "kind: EndpointPickerConfig", "EndpointPickerConfig", "'kind' stands twice"),
        ("apiVersion: v1\nkind: EndpointPickerConfig", "apiVersion", "'v1' is not llm-d.ai"),
        ("apiVersion: llm-d.ai/v1alpha1\nkind: Pod", "kind", "'Pod'"),
        (HEAD + "pluginz: []", "EndpointPickerConfig", "unknown field `pluginz`"),
        (HEAD + "plugins: [{type: a, weight: 1}]", "EndpointPickerConfig", "`weight`"),
        (HEAD + "plugins: [{name: a}]", "EndpointPickerConfig", "`type`"),
        (HEAD + "plugins: [{type: ''}]", "plugins[0].type", "is empty"),
        (HEAD + "plugins: [{type: a}, {type: a}]", "plugins", "'a' stands twice"),
        (HEAD + "plugins: [{type: a}, {type: b, name: a}]", "plugins", "'a' stands twice"),
        (
            HEAD + "schedulingProfiles: [{name: p}, {name: p}]",
            "schedulingProfiles",
            "'p' stands twice",
        ),
        (HEAD + "featureGates: [dataLayer]", "featureGates", "no gate 'dataLayer'"),
        (HEAD + "featureGates: [flowControl=maybe]", "featureGates", "neither"),
        (
            HEAD + "schedulingProfiles: [{name: p, plugins: [{pluginRef: x}]}]",
            "schedulingProfiles[p]",
            "'x' names no plugin",
        ),
        (HEAD + "saturationDetector: {pluginRef: x}", "saturationDetector", "'x'"),
        (HEAD + "parser: {pluginRef: x}", "parser", "'x'"),
        (HEAD + "requestHandler: {parsers: [{pluginRef: x}]}", "requestHandler.parsers", "'x'"),
        (
            HEAD + "flowControl: {usageLimitPolicyPluginRef: x}",
            "flowControl.usageLimitPolicyPluginRef",
            "'x'",
        ),
        (
            HEAD + "flowControl: {priorityBands: [{priority: 1, fairnessPolicyRef: x}]}",
            "flowControl.priorityBands[0].fairnessPolicyRef",
            "'x'",
        ),
        (
            HEAD + "flowControl: {priorityBands: [{priority: 1}, {priority: 1}]}",
            "flowControl.priorityBands",
            "'1' stands twice",
        ),
        (
            HEAD + "flowControl: {defaultPriorityBand: {orderingPolicyRef: x}}",
            "flowControl.defaultPriorityBand.orderingPolicyRef",
            "'x'",
        ),
        (HEAD + "flowControl: {defaultRequestTTL: 5}", "EndpointPickerConfig", "str"),
        (HEAD + "flowControl: {defaultRequestTTL: '5'}", "flowControl.defaultRequestTTL", "'5'"),
        (HEAD + "flowControl: {maxBytes: 1gb}", "flowControl.maxBytes", "'1gb'"),
        (
            HEAD + "flowControl: {defaultNegativePriorityBand: {maxRequests: x}}",
            "flowControl.defaultNegativePriorityBand.maxRequests",
            "'x'",
        ),
        (HEAD + "dataLayer: {sources: [{pluginRef: x}]}", "dataLayer.sources", "'x'"),
        (HEAD + "dataLayer: {discovery: {pluginRef: x}}", "dataLayer.discovery", "'x'"),
        (
            HEAD + "dataLayer: {crossReplicaSyncInterval: soon}",
            "dataLayer.crossReplicaSyncInterval",
            "'soon'",
        ),
    ],
)
def test_a_document_that_upstream_would_refuse_is_refused_with_the_place(
    text: str, key: str, why: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_endpoint_picker_config(text)
    assert caught.value.key == key
    assert why in caught.value.why


def test_the_policies_that_are_always_there_need_no_definition() -> None:
    config = parse_endpoint_picker_config(
        HEAD
        + "flowControl: {saturationDetector: {pluginRef: utilization-detector}, priorityBands: "
        + "[{priority: 1, fairnessPolicyRef: global-strict-fairness-policy}]}"
    )
    assert config.saturation_detector_ref() == "utilization-detector"


@pytest.mark.parametrize(
    ("gates", "flow_control"),
    [
        ("", False),
        ("featureGates: [flowControl]", True),
        ("featureGates: [flowControl=true]", True),
        ("featureGates: [flowControl=False]", False),
        ("featureGates: [flowControl, flowControl=false]", False),
    ],
)
def test_a_gate_is_its_default_until_the_document_says_otherwise(
    gates: str, flow_control: bool
) -> None:
    config = parse_endpoint_picker_config(HEAD + gates)
    assert config.gate("flowControl") is flow_control
    assert config.gate("haPopulateNonLeaderDatastore") is True


def test_newer_places_of_a_reference_win_over_the_deprecated_ones() -> None:
    config = parse_endpoint_picker_config(
        HEAD
        + """
plugins: [{type: a}, {type: b}, {type: openai-parser, name: p}, {type: vllmhttp-parser, name: q}]
saturationDetector: {pluginRef: a}
flowControl: {saturationDetector: {pluginRef: b}}
parser: {pluginRef: p}
requestHandler: {parsers: [{pluginRef: q}, {pluginRef: p}]}
"""
    )
    assert config.saturation_detector_ref() == "b"
    assert config.parser_types() == ("vllmhttp-parser", "openai-parser")


def test_the_deprecated_places_are_read_where_nothing_else_is_given() -> None:
    config = parse_endpoint_picker_config(
        HEAD + "plugins: [{type: a}, {type: b}]\nsaturationDetector: {pluginRef: a}\n"
        "parser: {pluginRef: b}"
    )
    assert config.saturation_detector_ref() == "a"
    assert config.parser_types() == ("b",)
    assert parse_endpoint_picker_config(HEAD).saturation_detector_ref() == ""
    assert parse_endpoint_picker_config(HEAD).parser_types() == ()


def test_weights_and_parameters_pass_through() -> None:
    config = parse_endpoint_picker_config(
        HEAD
        + "plugins: [{type: a, parameters: {threshold: 3}}]\n"
        + "schedulingProfiles: [{name: p, plugins: [{pluginRef: a}]}]"
    )
    assert config.plugins[0].parameters == {"threshold": 3}
    assert config.scheduling_profiles[0].plugins[0].weight is None


def test_the_hash_names_the_text() -> None:
    assert config_hash("a") == config_hash("a")
    assert config_hash("a") != config_hash("b")
    assert len(config_hash("")) == 16
