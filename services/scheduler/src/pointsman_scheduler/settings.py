"""Everything that the scheduler can be told. Later wins: default, YAML file, SCHEDULER_*."""

from typing import Annotated, Literal

import msgspec

from pointsman_common.rpc_address import RpcTransport
from pointsman_common.settings_loader import Count, PositiveInt, PositiveSeconds, Seconds

Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]


class SchedulerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See deploy/config/scheduler.yaml for each key at its default."""

    bus_url: str = "nats://nats:4222"
    datalayer_url: str = "grpc://datalayer:9104"

    listen_address: str = "0.0.0.0:9103"
    """Where the hook is served: a comma list of `host:port` and `unix:///path`."""
    admin_address: str = "0.0.0.0:9193"
    """HTTP: /healthz /readyz /metrics /settings /describe."""

    rpc_transport: RpcTransport = "wire"
    """What carries the calls from and to other services: `wire`, our own HTTP/2 on asyncio, or
    `grpcio`. They understand each other."""

    log_level: Literal["debug", "info", "warning"] = "info"
    log_format: Literal["text", "json"] = "text"
    drain_s: Seconds = 30.0
    """Longest wait, at the end of the service, for the picks that it is asked."""

    endpoint_picker_config_path: str = ""
    """EndpointPickerConfig for the pools that publish none; empty: `default_policy`."""
    default_policy: Literal["cost", "upstream"] = "cost"
    """What is done where nothing is configured: the predicted cost in seconds, or llm-d-router's
    queue 2, KV cache 2, prefix 3."""

    seed: Count = 0
    """Of the generator from which each decision's own seed comes; 0: from the operating system."""

    role: Literal["active", "shadow"] = "active"
    """A shadow serves no picks: it decides on production's once more and reports how they compare.
    See docs/shadow.md."""
    shadow_name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{0,63}$")] = ""
    """Heads its reports; needed by a shadow."""
    shadow_report_s: Annotated[float, msgspec.Meta(gt=0, le=15)] = 5.0
    """Between two reports of a shadow. The edges send it descriptors for 15 s after each."""
    shadow_fraction: Fraction = 1.0
    """Of the picks, that a shadow decides on."""

    edge_lease_ttl_s: PositiveSeconds = 3.0
    """Leases of an edge that is silent for this long are dropped."""
    provisional_lease_ttl_s: PositiveSeconds = 3.0
    """A pick that no edge tells of stops counting after this time."""

    snapshot_max_age_s: PositiveSeconds = 10.0
    """Age from which the pool state counts as stale in the heartbeat. Picks go on with it."""
    metrics_fresh_s: Seconds = 1.0
    """Age up to which scraped metrics are believed wholly."""
    metrics_half_life_s: PositiveSeconds = 5.0
    """What halves that belief, time and again, beyond it; the rest goes to in-flight load."""

    prefix_index_max_blocks: PositiveInt = 4_000_000
    """Entries of one pool's prefix index, all endpoints together; some 250 bytes each. Fewer are
    kept in a pool of hundreds of endpoints, where each is larger."""

    receipts: Literal["all", "sampled", "off"] = "all"
    """Which decisions publish a receipt."""
    receipts_fraction: Fraction = 0.01
    """Of the decisions, when sampled. Refusals and foreseen misses of a TTFT objective always have
    one."""
    gather_receipts_s: Seconds = 0.002
    """Under load, receipts are gathered this long into one bus message."""
    receipts_waiting: PositiveInt = 1000
    """Receipts that may wait to be written; the oldest are dropped beyond, and counted."""
