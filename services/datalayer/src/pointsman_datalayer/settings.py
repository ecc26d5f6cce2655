"""All that the datalayer may be told."""

from typing import Annotated, Literal

import msgspec

from pointsman_common.rpc_address import RpcTransport
from pointsman_common.settings_loader import Count, PositiveInt, PositiveSeconds, Seconds
from pointsman_datalayer.plugins.data_layer import SourceSettings

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class DatalayerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Later wins: default, YAML, DATALAYER_*. See deploy/config/datalayer.yaml."""

    discovery: Literal["files", "kubernetes"] = "files"
    """Where the pools come from: manifests on disk, or the objects of an API server. With
    `kubernetes` the files are read as well (an EndpointPickerConfig is no object), and may lack."""

    manifests_path: str = "/etc/pointsman/manifests"
    """A directory of manifests (*.yaml, *.yml, *.json; not its subdirectories), a file, or a comma
    list of both."""

    manifests_poll_s: PositiveSeconds = 1.0
    """How often the files are looked at for changes."""

    kubernetes_namespaces: str = ""
    """Watched namespaces: a comma list; empty: the own one; `*`: every one."""

    kubeconfig: str = ""
    """A file; empty: as the pod that this is, else as KUBECONFIG or ~/.kube/config says."""

    kubernetes_watch_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=600)] = 60.0
    """A watch is begun anew after this long at most, so that one cut off unseen is found."""

    kubernetes_write_status: bool = True
    """Write the conditions of the objects; one replica does, which a Lease settles."""

    bus_url: str = "nats://nats:4222"
    redis_url: str = "redis://redis:6379/0"
    """For warm starts and the history of decisions; empty: do without."""

    listen_address: str = "0.0.0.0:9104"
    """Where GetSnapshot is served; a comma list of host:port and unix:///path."""

    admin_address: str = "0.0.0.0:9194"
    """Where the REST API, the console, health and metrics are served."""

    rpc_transport: RpcTransport = "wire"
    """What carries the calls from and to other services: `wire`, our own HTTP/2 on asyncio, or
    `grpcio`. They understand each other."""

    data_sources: tuple[SourceSettings, ...] = ()
    """What is read of each endpoint, and how, beside the metrics or of them; see docs/engines.md.
    The engines' metrics are read whether they are named or not."""

    scrape_path: str = "/metrics"
    """Where engines have their metrics, but for those whose own path is known (trtllm-serve)."""

    scrape_interval_s: PositiveSeconds = 0.05
    """Between two scrapes of an endpoint while its pool has work."""

    scrape_idle_interval_s: PositiveSeconds = 0.5
    """The same while the pool has no request in flight, running or waiting."""

    scrapes_per_s: PositiveInt = 2000
    """Most scrapes that a replica begins in a second; beyond, all intervals are stretched alike.
    One of 100 KB takes about 0.3 ms of a core."""

    scrape_timeout_s: PositiveSeconds = 1.0
    scrape_max_bytes: PositiveInt = 8 << 20
    """A longer answer is not read to its end, and counts as nonsense."""

    kv_events_port: Port = 0
    """Where engines publish their KV events (vLLM's ZeroMQ publisher, plus the rank); 0: nowhere,
    but for endpoints that name a `kvEventsUrl` of their own."""

    kv_replay_port: Port = 0
    """Where they repeat them (vLLM's `replay_endpoint`, plus the rank); 0: they do not."""

    metrics_stale_after_s: PositiveSeconds = 2.0
    """Age from which an endpoint's metrics count as stale in the regime and on the console."""

    unready_after_failures: PositiveInt = 3
    """Scrapes in a row that could not reach the endpoint, after which it is not picked."""

    unready_after_s: PositiveSeconds = 3.0
    """Seconds of such failures after which it is not picked, however many they were."""

    delta_interval_s: PositiveSeconds = 0.025
    """Shortest time between two messages that tell of changes in a pool."""

    delta_refresh_s: PositiveSeconds = 0.1
    """Unchanged metrics that were read again are told again when those told are older by this."""

    snapshot_interval_s: PositiveSeconds = 1.0
    config_interval_s: PositiveSeconds = 5.0

    regime_rise_s: Seconds = 1.0
    """How long a scarcer regime must hold before it is announced."""

    regime_fall_s: Seconds = 5.0
    """The same for a less scarce one."""

    target_saturation: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.7
    """Saturation at which the recommended number of replicas aims."""

    target_utilization: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.7
    """The same of the engine time that the requests ask for, as predicted from them."""

    ttft_slo_s: Seconds = 2.0
    """Time to first token to keep, as predicted for a request that comes now, in regimes and the
    recommendation; 0: it is not looked at."""

    min_replicas: Count = 1
    max_replicas: Count = 0
    """0: no limit."""

    recommend_up_s: Seconds = 15.0
    """Load must have asked for more replicas for this long."""

    recommend_down_s: Seconds = 300.0
    """Load must have asked for fewer replicas for this long."""

    scale_to_zero_after_s: Seconds = 0.0
    """Idle time after which a pool may do without any replica (the recommendation is then 0 where
    `min_replicas` is, and KEDA is told that the pool is not active); 0: never."""

    history_interval_s: PositiveSeconds = 5.0
    """Between two points of a pool's history; a change of regime or recommendation is one too."""

    history_stored: PositiveInt = 20_000
    """Points held in Redis, per pool; the last 720 are in memory."""

    external_metrics_address: str = ""
    """Where Kubernetes' external metrics API is served, for an APIService; empty: nowhere."""

    external_metrics_tls_cert: str = ""
    external_metrics_tls_key: str = ""
    """Files in PEM; an aggregated API server needs them. Both empty: plain HTTP."""

    external_metrics_client_ca: str = ""
    """File of the CA that signs the API server's client certificate (requestheader-client-ca);
    others are refused. Empty: anyone may ask."""

    edge_lease_ttl_s: PositiveSeconds = 3.0
    """Leases of an edge that is silent for this long are dropped."""

    decisions_kept: PositiveInt = 1000
    """Receipts held in memory."""

    decisions_stored: PositiveInt = 10_000
    """Receipts and request ends held in Redis, per pool."""

    envoy_eds_path: str = ""
    """File in which Envoy finds the endpoints (`path_config_source`); empty: none is written."""

    envoy_eds_cluster: str = "pool_endpoints"
    """Envoy's cluster that reads the file."""

    event_clients: PositiveInt = 50
    """Consoles that may watch at once."""

    log_level: Literal["debug", "info", "warning"] = "info"
    log_format: Literal["text", "json"] = "text"
    drain_s: Seconds = 30.0
