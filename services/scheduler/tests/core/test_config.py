from typing import Any

import pytest
import yaml

from pointsman_common.endpoint_picker_config import DEFAULT_CONFIG
from pointsman_common.errors import SettingsError
from pointsman_scheduler.core.config import COST_CONFIG, SchedulingConfig, compile_config
from pointsman_scheduler.plugins.catalogue import PLUGINS


def compiled(**sections: Any) -> SchedulingConfig:
    document = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig", **sections}
    return compile_config(yaml.safe_dump(document), PLUGINS)


def shape(config: SchedulingConfig) -> dict[str, tuple[list[str], dict[str, float], str]]:
    """Filters, scorers with weights and picker of each profile, by type."""
    return {
        name: (
            [entry.type for entry in profile.filters],
            {entry.type: entry.weight for entry in profile.scorers},
            profile.picker.type,
        )
        for name, profile in config.scheduler.profiles.items()
    }


def test_upstreams_built_in_default() -> None:
    weights = {"queue-scorer": 2.0, "kv-cache-utilization-scorer": 2.0, "prefix-cache-scorer": 3.0}
    assert shape(compile_config(DEFAULT_CONFIG, PLUGINS)) == {
        "default": ([], weights, "max-score-picker")
    }


def test_our_own_default() -> None:
    config = compile_config(COST_CONFIG, PLUGINS)
    assert shape(config) == {
        "default": ([], {"predicted-latency-cost-scorer": 1.0}, "max-score-picker")
    }


def test_without_profiles_one_holds_every_filter_scorer_and_picker() -> None:
    config = compiled(
        plugins=[
            {"type": "decode-filter"},
            {"type": "queue-scorer"},
            {"type": "random-picker"},
            {"type": "openai-parser"},
            {"type": "utilization-detector"},
        ]
    )
    assert shape(config) == {"default": (["decode-filter"], {"queue-scorer": 1.0}, "random-picker")}
    assert config.scheduler.handler.type == "single-profile-handler"


def test_a_profile_without_a_picker_takes_the_first_of_the_document() -> None:
    profile = {"name": "p", "plugins": [{"pluginRef": "queue-scorer"}]}
    plugins = [{"type": "queue-scorer"}, {"type": "weighted-random-picker"}]
    assert shape(compiled(plugins=plugins, schedulingProfiles=[profile]))["p"][2] == (
        "weighted-random-picker"
    )
    assert shape(compiled(plugins=plugins[:1], schedulingProfiles=[profile]))["p"][2] == (
        "max-score-picker"
    )


def test_plugins_are_named_and_parametrised() -> None:
    config = compiled(
        plugins=[
            {
                "name": "gpu",
                "type": "label-selector-filter",
                "parameters": {"matchLabels": {"a": "b"}},
            },
            {"name": "q", "type": "queue-scorer"},
        ],
        schedulingProfiles=[
            {"name": "p", "plugins": [{"pluginRef": "gpu"}, {"pluginRef": "q", "weight": 2.5}]}
        ],
    )
    profile = config.scheduler.profiles["p"]
    assert [entry.name for entry in profile.filters] == ["gpu"]
    assert [(entry.name, entry.weight) for entry in profile.scorers] == [("q", 2.5)]


def test_a_detector_filters_where_a_profile_names_it() -> None:
    config = compiled(
        plugins=[{"type": "concurrency-detector"}, {"type": "queue-scorer"}],
        schedulingProfiles=[
            {
                "name": "p",
                "plugins": [{"pluginRef": "concurrency-detector"}, {"pluginRef": "queue-scorer"}],
            }
        ],
    )
    assert shape(config)["p"][0] == ["concurrency-detector"]


def test_prefix_limits_are_read_from_upstreams_producer() -> None:
    parameters = {"maxPrefixBlocksToMatch": 10, "lruCapacityPerServer": 5, "autoTune": False}
    config = compiled(plugins=[{"type": "approx-prefix-cache-producer", "parameters": parameters}])
    assert config.prefix.max_prefix_blocks_to_match == 10
    assert config.prefix.lru_capacity_per_server == 5
    assert not config.prefix.auto_tune
    assert config.prefix.max_prefix_tokens_to_match == 131_072


ONE_PROFILE = [{"name": "p", "plugins": [{"pluginRef": "queue-scorer"}]}]


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"plugins": [{"type": "nonsense-scorer"}]}, "nonsense-scorer"),
        ({"plugins": [{"type": "latency-scorer"}]}, "latency-scorer"),
        ({"plugins": [{"type": "queue-scorer", "parameters": {"speed": 1}}]}, "speed"),
        ({"plugins": [{"type": "load-aware-scorer", "parameters": {"threshold": 0}}]}, "threshold"),
        (
            {"plugins": [{"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": 0}}]},
            "maxNumOfEndpoints",
        ),
        (
            {
                "plugins": [{"type": "queue-scorer"}],
                "schedulingProfiles": [
                    {"name": "p", "plugins": [{"pluginRef": "queue-scorer", "weight": -1}]}
                ],
            },
            "weight",
        ),
        (
            {
                "plugins": [{"type": "queue-scorer"}],
                "schedulingProfiles": [
                    {
                        "name": "p",
                        "plugins": [{"pluginRef": "queue-scorer", "weight": float("nan")}],
                    }
                ],
            },
            "weight",
        ),
        (
            {
                "plugins": [{"type": "openai-parser"}],
                "schedulingProfiles": [{"name": "p", "plugins": [{"pluginRef": "openai-parser"}]}],
            },
            "openai-parser",
        ),
        (
            {
                "plugins": [{"type": "random-picker"}, {"type": "max-score-picker"}],
                "schedulingProfiles": [
                    {
                        "name": "p",
                        "plugins": [
                            {"pluginRef": "random-picker"},
                            {"pluginRef": "max-score-picker"},
                        ],
                    }
                ],
            },
            "more than one picker",
        ),
        (
            {
                "plugins": [{"type": "queue-scorer"}],
                "schedulingProfiles": [*ONE_PROFILE, {**ONE_PROFILE[0], "name": "q"}],
            },
            "single-profile-handler",
        ),
        (
            {
                "plugins": [
                    {"type": "single-profile-handler"},
                    {"type": "single-profile-handler", "name": "again"},
                ]
            },
            "more than one profile handler",
        ),
        (
            {
                "plugins": [
                    {
                        "type": "approx-prefix-cache-producer",
                        "parameters": {"lruCapacityPerServer": 0},
                    }
                ]
            },
            "lruCapacityPerServer",
        ),
        (
            {
                "plugins": [
                    {
                        "type": "label-selector-filter",
                        "parameters": {"matchExpressions": [{"key": "a", "operator": "Near"}]},
                    }
                ]
            },
            "Near",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(sections: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        compiled(**sections)
