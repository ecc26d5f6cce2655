"""The configurations that the cases name."""

from typing import Any

from pointsman_common.endpoint_picker_config import DEFAULT_CONFIG
from support.case_pools import picker_config

_OPENAI_ONLY = {"parsers": [{"pluginRef": "openai-parser"}]}

QK = picker_config(
    ["queue-scorer", "kv-cache-utilization-scorer", "max-score-picker", "openai-parser"],
    requestHandler=_OPENAI_ONLY,
)
DEF = DEFAULT_CONFIG
LORA = picker_config(
    ["queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer", "lora-affinity-scorer"]
)
LORA_ONLY = picker_config(["lora-affinity-scorer"])
QK_TWO = picker_config(
    [
        "queue-scorer",
        "kv-cache-utilization-scorer",
        {"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": 2}},
    ]
)
QK_DECODE = picker_config(["decode-filter", "queue-scorer", "kv-cache-utilization-scorer"])
ACTIVE = picker_config(["active-request-scorer"])
PREFIX_CAPPED = picker_config(
    [
        {"type": "approx-prefix-cache-producer", "parameters": {"maxPrefixTokensToMatch": 128}},
        "queue-scorer",
        "kv-cache-utilization-scorer",
        "prefix-cache-scorer",
    ],
    weights={
        "queue-scorer": 2,
        "kv-cache-utilization-scorer": 2,
        "prefix-cache-scorer": 3,
    },
)


def flow_control(*plugins: str | dict[str, Any], **section: object) -> str:
    """Upstream's default with the gate on, and a `flowControl` section."""
    sections: dict[str, Any] = {"flowControl": section} if section else {}
    return picker_config(
        [
            "queue-scorer",
            "kv-cache-utilization-scorer",
            "prefix-cache-scorer",
            *plugins,
        ],
        featureGates=["flowControl"],
        **sections,
    )


FC = flow_control()


def one_at_a_time(fairness: str) -> str:
    """Room for one request in the pool, so that the order of dispatch shows."""
    return flow_control(
        {"type": "concurrency-detector", "parameters": {"maxConcurrency": 1}},
        fairness,
        saturationDetector={"pluginRef": "concurrency-detector"},
        defaultPriorityBand={"fairnessPolicyRef": fairness},
    )
