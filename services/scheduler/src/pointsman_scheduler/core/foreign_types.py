"""Plugin types of an EndpointPickerConfig that are not the scheduler's.

One document configures several layers. A type of another layer is accepted and left to it; a
scheduling type of upstream's that does not exist here refuses the configuration, since to leave a
scorer or filter out would change where requests go without saying so. docs/plugins.md lists them.
"""

PREFIX_PRODUCER = "approx-prefix-cache-producer"
"""The prefix index: its limits are read from this plugin's parameters."""

OTHER_LAYERS = frozenset(
    {
        # router: parsers
        "openai-parser",
        "anthropic-parser",
        "vllmhttp-parser",
        "sglanghttp-parser",
        "vllmgrpc-parser",
        "vertexai-parser",
        "passthrough-parser",
        "agent-identity",
        "session-id-producer",
        "token-producer",
        # flow controller: policies, detectors and admission
        "global-strict-fairness-policy",
        "round-robin-fairness-policy",
        "program-aware-fairness",
        "token-weighted-fairness-policy",
        "fcfs-ordering-policy",
        "edf-ordering-policy",
        "slo-deadline-ordering-policy",
        "static-usage-limit-policy",
        "priority-holdback-policy",
        "soft-reflective-ceiling-policy",
        "sheddable-eviction-filter",
        "priority-then-time-eviction-order-policy",
        "predicted-ttft-detector",
        "latency-slo-admitter",
        "probabilistic-admitter",
        # datalayer: sources, extractors, discovery
        "metrics-data-source",
        "models-data-source",
        "dcgm-data-source",
        "k8s-notification-source",
        "endpoint-notification-source",
        "core-metrics-extractor",
        "models-extractor",
        "dcgm-extractor",
        "topology-extractor",
        "file-discovery",
        "multicluster-file-discovery",
        # edge
        "request-attribute-reporter",
        "destination-endpoint-served-verifier",
        # scheduler: what the columns hold without being asked
        "inflight-load-producer",
        "precise-prefix-cache-producer",
        "burst-prefix-cache-producer",
        # scheduler: what the profile handlers do by themselves
        "disagg-headers-handler",
        "prefill-header-handler",
        PREFIX_PRODUCER,
    }
)

DETECTORS = frozenset({"utilization-detector", "concurrency-detector"})
"""The flow controller's; also filters, but only where a profile names them."""

NOT_AVAILABLE = frozenset(
    {
        "topology-affinity-scorer",
        "topology-affinity-filter",
        "mm-embeddings-cache-scorer",
        "mm-embeddings-cache-producer",
        "latency-scorer",
        "predicted-latency-producer",
        "slo-headroom-tier-filter",
        "always-disagg-multimodal-decider",
        "p2p-source-producer",
        "disaggregatedset-rollout-screener",
    }
)
"""Upstream's scheduling types that are refused."""
