"""Envoy's bootstrap for a gateway whose endpoints Pointsman picks.

The listener hands each request to the edge (ext_proc); the edge answers with an ordered list of
endpoints in the metadata `envoy.lb` and in a header; the cluster's override_host policy sends the
request to the first and, when it cannot be reached, to the next. Endpoints come from the file that
the datalayer writes (EDS), so an address that is no member of the pool is never dialled.
"""

from datetime import timedelta
from typing import Any

import betterproto2
import msgspec
import yaml
from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.overload import v3 as overload
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.access_loggers.grpc import v3 as grpc_log
from envoy_data_plane.envoy.extensions.clusters.dns import v3 as dns
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.load_balancing_policies.override_host import (
    v3 as override_host,
)
from envoy_data_plane.envoy.extensions.load_balancing_policies.round_robin import v3 as round_robin
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections import (
    v3 as downstream_connections,
)
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as http
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.envoy.type.metadata import v3 as metadata
from envoy_data_plane.google.protobuf import Any as AnyMessage

from pointsman_cli.core.envoy_replies import error_replies
from pointsman_cli.core.gateway_options import CompletionSignal, ResponseMode

POOL_CLUSTER = "pool_endpoints"
"""The EDS service name: the datalayer writes its endpoints under it."""

EDGE_CLUSTER = "ext_proc"
DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
LB_NAMESPACE = "envoy.lb"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"

EDGE_ANSWER_S = 70
"""How long the edge may hold a request: above the 65 s that it gives a request in its queue."""

STREAM_IDLE_S = 600
"""Silence after which a stream is given up; a long prefill is silent for minutes."""

UPSTREAM_IDLE_S = 4
"""Below the 5 s after which vLLM's HTTP server closes an idle connection, so that a request never
races that close."""

MANY = 65_536
"""For circuit breakers: their default of 1,024 turns a busy pool into 503s."""

RETRY_BODY_BYTES = 32 * 2**20
"""Bodies up to the edge's own limit are kept until the answer begins, to serve a fallback."""


class EnvoyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses are `host:port`, or `unix:///path` for the edges."""

    listen_address: str
    admin_address: str
    edge_addresses: tuple[str, ...]
    edge_by_dns: bool = False
    """Resolve the edges' host names again and again, as containers come and go."""

    endpoints_path: str
    """The file that the datalayer replaces by renaming."""

    response_mode: ResponseMode = ResponseMode.STREAMED
    completion_signal: CompletionSignal = CompletionSignal.ACCESS_LOG


def render_envoy_config(plan: EnvoyPlan) -> str:
    """The bootstrap as YAML."""
    plain = build_bootstrap(plan).to_dict(casing=betterproto2.Casing.SNAKE)
    return yaml.safe_dump(plain, sort_keys=False, width=100)


def empty_endpoints_file() -> str:
    """What Envoy may read before the datalayer has written its first list."""
    assignment = {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": POOL_CLUSTER,
    }
    discovery = {"version_info": "0", "resources": [assignment]}
    return msgspec.json.encode(discovery).decode() + "\n"


def build_bootstrap(plan: EnvoyPlan) -> bootstrap.Bootstrap:
    return bootstrap.Bootstrap(
        # The file source of EDS needs a node.
        node=core.Node(id="gateway", cluster="pointsman"),
        admin=bootstrap.Admin(address=_address(plan.admin_address)),
        overload_manager=_connection_limit(),
        static_resources=bootstrap.BootstrapStaticResources(
            listeners=[_listener(plan)],
            clusters=[_edge_cluster(plan), _pool_cluster(plan)],
        ),
    )


def _connection_limit() -> overload.OverloadManager:
    limit = downstream_connections.DownstreamConnectionsConfig(
        max_active_downstream_connections=MANY
    )
    name = "envoy.resource_monitors.global_downstream_max_connections"
    monitor = overload.ResourceMonitor(**_named(name, limit))
    return overload.OverloadManager(resource_monitors=[monitor])


def _listener(plan: EnvoyPlan) -> listener.Listener:
    manager = _named("envoy.filters.network.http_connection_manager", _connection_manager(plan))
    return listener.Listener(
        name="gateway",
        address=_address(plan.listen_address),
        filter_chains=[listener.FilterChain(filters=[listener.Filter(**manager)])],
    )


def _connection_manager(plan: EnvoyPlan) -> hcm.HttpConnectionManager:
    return hcm.HttpConnectionManager(
        stat_prefix="gateway",
        # Clients are strangers: request ids are made here, so that they are unique, and
        # `x-envoy-*` headers that would change timeouts or retries are removed.
        use_remote_address=True,
        generate_request_id=True,
        always_set_request_id_in_response=True,
        normalize_path=True,
        stream_idle_timeout=timedelta(seconds=STREAM_IDLE_S),
        request_headers_timeout=timedelta(seconds=30),
        common_http_protocol_options=core.HttpProtocolOptions(
            idle_timeout=timedelta(seconds=STREAM_IDLE_S),
        ),
        access_log=_access_log(plan),
        route_config=_route(),
        local_reply_config=error_replies(),
        http_filters=[
            hcm.HttpFilter(**_named("envoy.filters.http.ext_proc", _ext_proc(plan))),
            hcm.HttpFilter(
                **_named(
                    "envoy.filters.http.router",
                    router.Router(suppress_envoy_headers=True),
                )
            ),
        ],
    )


def _route() -> route.RouteConfiguration:
    to_pool = route.RouteAction(
        cluster=POOL_CLUSTER,
        timeout=timedelta(0),  # an answer may take minutes; idle timeouts bound it
        idle_timeout=timedelta(seconds=STREAM_IDLE_S),
        retry_policy=route.RetryPolicy(
            # Only what no model server has seen: anything later could be computed twice.
            retry_on="connect-failure,reset-before-request",
            num_retries=2,
            retry_back_off=route.RetryPolicyRetryBackOff(
                base_interval=timedelta(milliseconds=5),
                max_interval=timedelta(milliseconds=50),
            ),
        ),
    )
    everything = route.Route(match=route.RouteMatch(prefix="/"), route=to_pool)
    host = route.VirtualHost(
        name="pool",
        domains=["*"],
        routes=[everything],
        request_body_buffer_limit=RETRY_BODY_BYTES,
    )
    return route.RouteConfiguration(name="pool", virtual_hosts=[host])


def _ext_proc(plan: EnvoyPlan) -> ext_proc.ExternalProcessor:
    send, skip = (
        ext_proc.ProcessingModeHeaderSendMode.SEND,
        ext_proc.ProcessingModeHeaderSendMode.SKIP,
    )
    body = ext_proc.ProcessingModeBodySendMode
    response_body = {
        ResponseMode.STREAMED: body.STREAMED,
        ResponseMode.FULL_DUPLEX: body.FULL_DUPLEX_STREAMED,
        ResponseMode.NONE: body.NONE,
    }[plan.response_mode]
    return ext_proc.ExternalProcessor(
        grpc_service=core.GrpcService(
            envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=EDGE_CLUSTER),
            # Another edge is asked when one has gone or drains; only before it has seen the request
            # (an edge that has answers in ext_proc's own words, never with a gRPC status).
            retry_policy=core.RetryPolicy(
                retry_on="connect-failure,refused-stream,reset-before-request,unavailable",
                num_retries=3,
                retry_back_off=core.BackoffStrategy(
                    base_interval=timedelta(milliseconds=5),
                    max_interval=timedelta(milliseconds=50),
                ),
            ),
        ),
        failure_mode_allow=False,
        status_on_error=envoy_type.HttpStatus(code=envoy_type.StatusCode.ServiceUnavailable),
        message_timeout=timedelta(seconds=EDGE_ANSWER_S),
        processing_mode=ext_proc.ProcessingMode(
            request_header_mode=send,
            request_body_mode=body.FULL_DUPLEX_STREAMED,
            request_trailer_mode=send,
            response_header_mode=send,
            response_body_mode=response_body,
            response_trailer_mode=skip if plan.response_mode is ResponseMode.NONE else send,
        ),
        metadata_options=ext_proc.MetadataOptions(
            forwarding_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(
                untyped=[LB_NAMESPACE, SUBSET_NAMESPACE],
            ),
            receiving_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(
                untyped=[LB_NAMESPACE],
            ),
        ),
    )


def _access_log(plan: EnvoyPlan) -> list[accesslog.AccessLog]:
    if plan.completion_signal is not CompletionSignal.ACCESS_LOG:
        return []
    config = grpc_log.HttpGrpcAccessLogConfig(
        common_config=grpc_log.CommonGrpcAccessLogConfig(
            log_name="pointsman",
            transport_api_version=core.ApiVersion.V3,
            buffer_flush_interval=timedelta(milliseconds=50),
            grpc_service=core.GrpcService(
                envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=EDGE_CLUSTER),
            ),
        ),
    )
    return [accesslog.AccessLog(**_named("envoy.access_loggers.http_grpc", config))]


def _edge_cluster(plan: EnvoyPlan) -> cluster.Cluster:
    over_http2 = http.HttpProtocolOptions(
        explicit_http_config=http.HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=core.Http2ProtocolOptions(
                connection_keepalive=core.KeepaliveSettings(
                    interval=timedelta(seconds=10), timeout=timedelta(seconds=5)
                ),
            ),
        ),
    )
    return cluster.Cluster(
        name=EDGE_CLUSTER,
        type=None if plan.edge_by_dns else cluster.ClusterDiscoveryType.STATIC,
        cluster_type=_resolved_again() if plan.edge_by_dns else None,
        connect_timeout=timedelta(seconds=1),
        circuit_breakers=_high_limits(),
        health_checks=[_edge_health_check()],
        typed_extension_protocol_options=_http_options(over_http2),
        load_assignment=endpoint.ClusterLoadAssignment(
            cluster_name=EDGE_CLUSTER,
            endpoints=[
                endpoint.LocalityLbEndpoints(
                    lb_endpoints=[
                        endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=_address(address)))
                        for address in plan.edge_addresses
                    ],
                ),
            ],
        ),
    )


def _resolved_again() -> cluster.ClusterCustomClusterType:
    """Every address of a name is an edge of its own."""
    often = dns.DnsCluster(dns_refresh_rate=timedelta(seconds=1))
    return cluster.ClusterCustomClusterType(**_named("envoy.clusters.dns", often))


def _edge_health_check() -> core.HealthCheck:
    """Finds an edge that drains before it refuses, and one that is back before it is needed."""
    return core.HealthCheck(
        timeout=timedelta(seconds=1),
        interval=timedelta(milliseconds=500),
        # An edge that nobody has asked yet is looked at as often: the first request must not wait.
        no_traffic_interval=timedelta(milliseconds=500),
        unhealthy_threshold=1,
        healthy_threshold=1,
        grpc_health_check=core.HealthCheckGrpcHealthCheck(service_name="readiness"),
    )


def _pool_cluster(plan: EnvoyPlan) -> cluster.Cluster:
    over_http1 = http.HttpProtocolOptions(
        common_http_protocol_options=core.HttpProtocolOptions(
            idle_timeout=timedelta(seconds=UPSTREAM_IDLE_S),
        ),
        explicit_http_config=http.HttpProtocolOptionsExplicitHttpConfig(
            http_protocol_options=core.Http1ProtocolOptions(),
        ),
    )
    return cluster.Cluster(
        name=POOL_CLUSTER,
        type=cluster.ClusterDiscoveryType.EDS,
        eds_cluster_config=cluster.ClusterEdsClusterConfig(
            service_name=POOL_CLUSTER,
            eds_config=core.ConfigSource(
                path_config_source=core.PathConfigSource(path=plan.endpoints_path),
                resource_api_version=core.ApiVersion.V3,
            ),
        ),
        connect_timeout=timedelta(seconds=1),
        circuit_breakers=_high_limits(),
        # The datalayer decides who is a member; one that has left is not waited for.
        ignore_health_on_host_removal=True,
        typed_extension_protocol_options=_http_options(over_http1),
        load_balancing_policy=_policy(
            "envoy.load_balancing_policies.override_host",
            override_host.OverrideHost(
                override_host_sources=[
                    override_host.OverrideHostOverrideHostSource(metadata=_lb_key(DESTINATION)),
                    override_host.OverrideHostOverrideHostSource(header=DESTINATION),
                ],
                selected_host_key=_lb_key(SERVED),
                fallback_policy=_policy(
                    "envoy.load_balancing_policies.round_robin", round_robin.RoundRobin()
                ),
            ),
        ),
    )


def _lb_key(name: str) -> metadata.MetadataKey:
    return metadata.MetadataKey(key=LB_NAMESPACE, path=[metadata.MetadataKeyPathSegment(key=name)])


def _policy(name: str, config: betterproto2.Message) -> cluster.LoadBalancingPolicy:
    typed = core.TypedExtensionConfig(**_named(name, config))
    return cluster.LoadBalancingPolicy(
        policies=[cluster.LoadBalancingPolicyPolicy(typed_extension_config=typed)]
    )


def _high_limits() -> cluster.CircuitBreakers:
    limits = cluster.CircuitBreakersThresholds(
        max_connections=MANY, max_pending_requests=MANY, max_requests=MANY, max_retries=MANY
    )
    return cluster.CircuitBreakers(thresholds=[limits])


def _http_options(options: http.HttpProtocolOptions) -> dict[str, AnyMessage]:
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": AnyMessage.pack(options)}


def _named(name: str, config: betterproto2.Message) -> dict[str, Any]:
    return {"name": name, "typed_config": AnyMessage.pack(config)}


def _address(address: str) -> core.Address:
    if address.startswith("unix://"):
        return core.Address(pipe=core.Pipe(path=address.removeprefix("unix://")))
    host, _, port = address.rpartition(":")
    return core.Address(
        socket_address=core.SocketAddress(address=host.strip("[]"), port_value=int(port))
    )
