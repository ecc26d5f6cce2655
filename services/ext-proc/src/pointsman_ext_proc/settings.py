"""Everything that the edge can be told. Later wins: default, YAML file, EXT_PROC_* environment."""

from typing import Literal

import msgspec

from pointsman_common.rpc_address import RpcTransport
from pointsman_common.settings_loader import Count, PositiveInt, PositiveSeconds, Seconds

FailurePolicy = Literal["failClosed", "failOpen"]
"""What a request gets when no replica of a layer answers: 503, or service without that layer."""


class ExtProcSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See deploy/config/ext-proc.yaml for each key at its default."""

    pool: str = "default/llama"
    """`<namespace>/<name>` of the InferencePool that this edge's listener serves."""

    bus_url: str = "nats://nats:4222"
    datalayer_url: str = "grpc://datalayer:9104"

    listen_address: str = "0.0.0.0:9002"
    """Where ext_proc, the access log service and health are served: a comma list of `host:port` and
    `unix:///path`."""
    health_address: str = "0.0.0.0:9003"
    """Health alone, never with TLS: for probes."""
    admin_address: str = "0.0.0.0:9090"
    """HTTP: /healthz /readyz /metrics /settings /describe."""

    tls_certificate_path: str = ""
    """PEM chain of the ext_proc listener; empty: plaintext."""
    tls_private_key_path: str = ""
    tls_client_ca_path: str = ""
    """Set: gateways must present a certificate signed by it."""

    rpc_transport: RpcTransport = "wire"
    """What carries the calls from and to other services: `wire`, our own HTTP/2 on asyncio, or
    `grpcio`. They understand each other."""

    log_level: str = "info"
    log_format: str = "text"

    drain_s: Seconds = 30.0
    """Longest wait, at the end of the service, for the requests that it carries."""
    drain_delay_s: Seconds = 1.0
    """Time between "not ready" and refusing new streams, for gateways to notice."""

    router_url: str = "grpc://router:9101"
    """A comma list of `grpc://host:port` and `unix:///path`, or of `http(s)://host:port`."""
    flow_controller_url: str = "grpc://flow-controller:9102"
    scheduler_url: str = "grpc://scheduler:9103"

    router_failure: FailurePolicy = "failClosed"
    """failOpen: the body goes on unchanged, at priority 0."""
    flow_controller_failure: FailurePolicy = "failClosed"
    """failOpen: admitted, counted as unguarded."""
    scheduler_failure: FailurePolicy = "failClosed"
    """failOpen: round-robin over the last known ready endpoints."""

    route_timeout_s: PositiveSeconds = 2.0
    admit_timeout_s: PositiveSeconds = 65.0
    """Keep it above the flow controller's queue TTL, so that an expiry is answered by it."""
    pick_timeout_s: PositiveSeconds = 1.0
    request_timeout_s: PositiveSeconds = 70.0
    """For the three layers together; each hop gets what is left. Keep it under Envoy's timeout."""
    admit_retry_s: Seconds = 2.0
    """How long every flow controller may be away before a waiting request gives up. With failOpen
    this is for requests that were queued when theirs went; others pass at once."""

    circuit_failures: PositiveInt = 5
    """Consecutive failures after which a layer is not asked any more."""
    circuit_open_s: PositiveSeconds = 1.0
    """How long it is not asked; then one request tries."""

    default_model: str = ""
    """Model of a request that passes without a router and names none in `model_header`."""
    model_header: str = "x-gateway-model-name"

    max_body_bytes: PositiveInt = 32 << 20
    """A longer request body is answered with 413."""
    max_response_buffer_bytes: Count = 8 << 20
    """A JSON answer up to this length is held until its end, to read usage and restore the model
    name; a longer one is passed on as it comes."""

    completion_signal: Literal["stream", "access-log"] = "stream"
    """How the end of an answer in STREAMED mode is learnt: from each of its chunks, or from Envoy's
    gRPC access log, which must then be sent to the edges. Without effect in other modes."""

    subset_filter: bool = True
    """Honour the subset that the gateway sends in its metadata."""
    emit_endpoint_scores: bool = False
    """Add the candidates' scores to the dynamic metadata."""
    echo_served_endpoint: bool = False
    """Add `x-conformance-test-served-endpoint` to answers: for the gateway conformance suite."""
    error_format: Literal["openai", "upstream"] = "openai"
    """Body of a refusal: OpenAI's error JSON, or `inference error: <Code> - <message>` as text."""

    max_lease_s: PositiveSeconds = 3600.0
    """A lease is given up after this time, as lost."""
    max_open_leases: PositiveInt = 200_000
    """The oldest lease is given up beyond this number, as lost."""
    gather_events_s: Seconds = 0.002
    """Under load, events are gathered this long into one bus message."""
    republish_blocks_s: PositiveSeconds = 30.0
    """Prompt blocks told of once for an endpoint are told again after this time, for those who
    started later."""
    publish_descriptors: Literal["auto", "always", "never"] = "auto"
    """Send each request's descriptor along with its pick, which shadow schedulers need. auto: while
    one is heard that wants them."""
