"""The edge told as a short story: what it is made of, and how the parts know each other."""

from dataclasses import dataclass
from random import Random

from pointsman_common.admin_api import AdminApi
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock, SystemClock
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.heartbeat import Heartbeat
from pointsman_common.identity import description, replica_id
from pointsman_common.lifecycle import Part, run_until_signalled
from pointsman_common.nats_bus import NatsBus
from pointsman_common.pool_subscriber import PoolSubscriber
from pointsman_common.pool_view import PoolView
from pointsman_common.rpc_channel import HookChannel
from pointsman_common.settings_loader import load_settings
from pointsman_common.structured_log import configure_log
from pointsman_ext_proc.adapters.access_log_server import AccessLogServer
from pointsman_ext_proc.adapters.eviction_subscriber import EvictionSubscriber
from pointsman_ext_proc.adapters.exchange_stream import EdgeParts
from pointsman_ext_proc.adapters.ext_proc_server import ExtProcServer, read_tls
from pointsman_ext_proc.adapters.health_service import HealthService
from pointsman_ext_proc.adapters.layer_clients import (
    CANDIDATES,
    CapabilityWatch,
    LayerClients,
    transport_for,
)
from pointsman_ext_proc.adapters.lease_book import LeaseBook, LeaseRules
from pointsman_ext_proc.adapters.request_event_publisher import RequestEventPublisher
from pointsman_ext_proc.core.endpoint_directory import EndpointDirectory
from pointsman_ext_proc.core.exchange import ExchangeRules
from pointsman_ext_proc.core.last_resort import LastResort
from pointsman_ext_proc.core.layer_sequence import Hop, SequenceRules, Shared
from pointsman_ext_proc.metrics import Metrics
from pointsman_ext_proc.settings import ExtProcSettings

LAYER = "ext-proc"

SNAPSHOT_MAX_AGE_S = 10.0
"""The edge goes on with an older view; it is what it has."""


async def main(config: str | None = None) -> None:
    settings = load_settings(ExtProcSettings, prefix="EXT_PROC_", path=config)
    configure_log(level=settings.log_level, form=settings.log_format)
    clock, replica = SystemClock(), replica_id(LAYER)
    bus = NatsBus(settings.bus_url, clock, name=replica)
    edge = compose(settings, bus, clock, replica=replica)
    await run_until_signalled(*edge.parts, bus, drain_s=settings.drain_s)


@dataclass(frozen=True, slots=True)
class Edge:
    """The edge without its bus. `parts` are in the order in which they drain."""

    parts: tuple[Part, ...]
    server: ExtProcServer
    exchanges: EdgeParts
    view: PoolView
    leases: LeaseBook
    metrics: Metrics


def compose(settings: ExtProcSettings, bus: Bus, clock: Clock, *, replica: str) -> Edge:
    """Raises SettingsError when a URL or a file of the settings cannot be used."""
    metrics, stamp = Metrics(), EnvelopeStamp(replica, clock)
    view = PoolView(max_age_s=SNAPSHOT_MAX_AGE_S)
    directory = EndpointDirectory(view, settings.pool)
    publisher = RequestEventPublisher(
        bus, clock, stamp, pool=settings.pool, gather_s=settings.gather_events_s
    )
    leases = LeaseBook(
        bus,
        clock,
        stamp,
        publisher,
        directory,
        rules=lease_rules(settings),
        on_opened=metrics.lease_opened,
        on_ended=metrics.lease_ended,
    )
    urls = {
        Hop.ROUTE: ("router_url", settings.router_url),
        Hop.ADMIT: ("flow_controller_url", settings.flow_controller_url),
        Hop.PICK: ("scheduler_url", settings.scheduler_url),
    }
    transports = {
        hop: transport_for(url, clock, key=key, rpc_transport=settings.rpc_transport)
        for hop, (key, url) in urls.items()
    }
    layers = LayerClients(
        transports,
        clock,
        circuit_failures=settings.circuit_failures,
        circuit_open_s=settings.circuit_open_s,
        admit_retry_s=settings.admit_retry_s,
        admit_fails_open=settings.flow_controller_failure == "failOpen",
        rng=Random(),
        on_hop=metrics.hop,
    )
    scheduler = CapabilityWatch(transports[Hop.PICK], clock)
    exchanges = EdgeParts(
        clock=clock,
        layers=layers,
        shared=Shared(
            sequence_rules(settings),
            directory,
            LastResort(),
            wants_candidates=lambda: scheduler.has(CANDIDATES),
            on_degraded=metrics.degraded,
        ),
        leases=leases,
        rules=exchange_rules(settings),
        error_format=settings.error_format,
        on_refused=metrics.refused,
        on_failure=metrics.stream_failures.inc,
    )
    metrics.watch(
        circuits=layers.circuits,
        open_leases=lambda: len(leases),
        events_dropped=lambda: publisher.dropped,
        descriptors=leases.descriptors,
    )

    def ready() -> bool:
        return directory.known

    def describe() -> DescribeResponse:
        return description(LAYER, replica)

    server = ExtProcServer(
        settings.listen_address,
        settings.health_address,
        exchanges,
        AccessLogServer(leases),
        HealthService(ready=ready, describe=describe),
        clock=clock,
        drain_delay_s=settings.drain_delay_s,
        tls=read_tls(
            settings.tls_certificate_path,
            settings.tls_private_key_path,
            settings.tls_client_ca_path,
        ),
        transport=settings.rpc_transport,
        on_streams=metrics.open_streams.set,
    )
    admin = AdminApi(
        settings.admin_address,
        settings=settings,
        registry=metrics.registry,
        ready=ready,
        describe=describe,
    )
    datalayer = HookChannel(
        settings.datalayer_url, clock, key="datalayer_url", transport=settings.rpc_transport
    )
    heartbeat = Heartbeat(
        bus,
        clock,
        stamp,
        describe=describe,
        address=lambda: ",".join(server.bound),
        admin_url=lambda: f"http://{admin.bound}",
        pools=lambda: [settings.pool],
        gauges=metrics.gauges,
        open_leases=lambda: len(leases),
    )
    pool = PoolSubscriber(bus, clock, view, pool=settings.pool, datalayer=datalayer)
    evictions = EvictionSubscriber(
        bus, settings.pool, exchanges.streams, leases, on_eviction=metrics.eviction
    )
    parts = (admin, server, evictions, leases, scheduler, pool, heartbeat)
    return Edge(parts, server, exchanges, view, leases, metrics)


def exchange_rules(settings: ExtProcSettings) -> ExchangeRules:
    return ExchangeRules(
        max_body_bytes=settings.max_body_bytes,
        max_response_buffer_bytes=settings.max_response_buffer_bytes,
        ends_in_access_log=settings.completion_signal == "access-log",
        honours_subset=settings.subset_filter,
        emit_scores=settings.emit_endpoint_scores,
        echo_served=settings.echo_served_endpoint,
    )


def lease_rules(settings: ExtProcSettings) -> LeaseRules:
    return LeaseRules(
        pool=settings.pool,
        max_lease_s=settings.max_lease_s,
        max_open=settings.max_open_leases,
        republish_blocks_s=settings.republish_blocks_s,
        publish_descriptors=settings.publish_descriptors,
        ends_in_access_log=settings.completion_signal == "access-log",
    )


def sequence_rules(settings: ExtProcSettings) -> SequenceRules:
    policies = {
        Hop.ROUTE: settings.router_failure,
        Hop.ADMIT: settings.flow_controller_failure,
        Hop.PICK: settings.scheduler_failure,
    }
    return SequenceRules(
        pool=settings.pool,
        timeouts_s={
            Hop.ROUTE: settings.route_timeout_s,
            Hop.ADMIT: settings.admit_timeout_s,
            Hop.PICK: settings.pick_timeout_s,
        },
        request_timeout_s=settings.request_timeout_s,
        fail_open=frozenset(hop for hop, policy in policies.items() if policy == "failOpen"),
        default_model=settings.default_model,
        model_header=settings.model_header,
        want_scores=settings.emit_endpoint_scores,
    )
