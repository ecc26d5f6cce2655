"""Everything that the flow controller can be told."""

from typing import Annotated, Literal

import msgspec

from pointsman_common.rpc_address import RpcTransport
from pointsman_common.settings_loader import Count, PositiveInt, PositiveSeconds, Seconds


class FlowControllerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Later wins: default, YAML, FLOW_CONTROLLER_*. See deploy/config/flow-controller.yaml."""

    listen_address: str = "0.0.0.0:9102"
    """Where the hook is served: `host:port` or `unix:///path`, or several with commas."""

    admin_address: str = "0.0.0.0:9192"
    """Health, readiness, metrics and settings over HTTP."""

    rpc_transport: RpcTransport = "wire"
    """What carries the calls from and to other services: `wire`, our own HTTP/2 on asyncio, or
    `grpcio`. They understand each other."""

    bus_url: str = "nats://nats:4222"
    datalayer_url: str = "grpc://datalayer:9104"
    """Asked for the pools at the start, and whenever the bus is silent."""

    log_level: Literal["debug", "info", "warning"] = "info"
    log_format: Literal["text", "json"] = "text"

    drain_s: Seconds = 30.0
    """How long after SIGTERM those who wait are still served. Who is left one second before the end
    is refused."""

    flow_control: Literal["auto", "on", "off"] = "auto"
    """Whether requests queue. `auto`: as the feature gate `flowControl` of the pool's
    EndpointPickerConfig says; a pool without one queues. Off: a full pool sheds the negative
    priorities and everyone else goes."""

    endpoint_picker_config_path: str = ""
    """An EndpointPickerConfig for the pools that publish none. Empty: the settings below."""

    fairness_policy: str = "round-robin-fairness-policy"
    """Of every priority band; see the README. This and what follows hold for pools without an
    EndpointPickerConfig."""
    ordering_policy: str = "fcfs-ordering-policy"

    queue_depth_threshold: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    """Waiting requests at which an endpoint is full."""

    kv_cache_threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    """KV cache utilization at which an endpoint is full."""

    metrics_stale_after_s: PositiveSeconds = 2.0
    """Age from which an endpoint's metrics are not believed: it then counts as full."""

    metrics_staleness_floor_s: Seconds = 2.0
    """Metrics younger than this are never stale, whatever an EndpointPickerConfig says: its usual
    200 ms are made for scraping every endpoint all the time, while an idle pool's are read twice a
    second here, and without the bus told of once a second."""

    blind_after_s: PositiveSeconds = 5.0
    """When nothing was heard of a pool for so long, its metrics count no more and requests in
    flight alone decide."""

    blind_max_concurrency: PositiveInt = 100
    """Requests in flight at which an endpoint is then full."""

    queue_ttl_s: PositiveSeconds = 60.0
    """Longest wait in a flow queue. Keep it under Envoy's timeout."""

    no_endpoint_queue_ttl_s: PositiveSeconds = 60.0
    """The same while the pool has no endpoint."""

    band_capacity_requests: PositiveInt = 5_000
    """Requests that may wait in one priority band."""

    band_capacity_bytes: PositiveInt = 1_000_000_000
    """The bytes of their bodies."""

    capacity_requests: Count = 0
    """Requests that may wait in one pool; 0: only the bands have bounds."""

    capacity_bytes: Count = 0

    edge_lease_ttl_s: PositiveSeconds = 3.0
    """Leases of an edge that is silent for this long are dropped."""

    pool_poll_s: PositiveSeconds = 1.0
    """A pool that the bus has not told of for so long is asked of the datalayer."""

    flow_shares_interval_s: Annotated[float, msgspec.Meta(gt=0, le=0.2)] = 0.05
    """How often the replicas tell each other of their demand and service. What all of them let go
    within it is how far fairness and limits may be off; a replica that is silent for 0.4 s has no
    share of the capacity."""

    flow_stats_interval_s: PositiveSeconds = 1.0
    flow_stats_flows: PositiveInt = 1_000
    """Flows of a pool told of on the bus, the longest queues first."""
