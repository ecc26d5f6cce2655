"""The datalayer, told as a short story."""

import argparse
import hashlib
from dataclasses import dataclass
from random import Random
from typing import Any

from fastapi import FastAPI

from pointsman_common.admin_api import AdminApi
from pointsman_common.clock import Clock, SystemClock
from pointsman_common.contracts.events_pb2 import RequestFinished
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.errors import SettingsError
from pointsman_common.heartbeat import Heartbeat
from pointsman_common.http_part import HttpPart, HttpTls
from pointsman_common.identity import description, replica_id
from pointsman_common.in_flight import LeaseTable
from pointsman_common.lease_subscriber import LeaseSubscriber
from pointsman_common.lifecycle import Part, run_until_signalled
from pointsman_common.nats_bus import NatsBus
from pointsman_common.rpc_server import RpcServer
from pointsman_common.settings_loader import load_settings
from pointsman_common.structured_log import configure_log
from pointsman_datalayer.adapters.bus_listener import BusListener
from pointsman_datalayer.adapters.demand_meter import DemandMeter
from pointsman_datalayer.adapters.envoy_endpoint_file import EnvoyEndpointFile
from pointsman_datalayer.adapters.external_metrics_api import build_external_metrics_api
from pointsman_datalayer.adapters.file_discovery import FileDiscovery
from pointsman_datalayer.adapters.keda_scaler import KedaScaler
from pointsman_datalayer.adapters.kubernetes_api import KubernetesApi
from pointsman_datalayer.adapters.kubernetes_status import KubernetesStatusWriter
from pointsman_datalayer.adapters.kubernetes_watch import KubernetesDiscovery, namespaces_of
from pointsman_datalayer.adapters.kv_event_reader import KvEventReader, KvPorts
from pointsman_datalayer.adapters.pool_history import PoolHistory
from pointsman_datalayer.adapters.pool_rpc_server import pool_hooks
from pointsman_datalayer.adapters.pool_snapshot_publisher import PoolSnapshotPublisher
from pointsman_datalayer.adapters.redis_endpoint_store import RedisEndpointStore
from pointsman_datalayer.adapters.replica_leases import ReplicaLeases
from pointsman_datalayer.adapters.rest_api import build_rest_api
from pointsman_datalayer.adapters.share_exchange import ShareExchange
from pointsman_datalayer.core.decision_log import DecisionLog
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.layer_roster import LayerRoster
from pointsman_datalayer.core.live_state import LiveState
from pointsman_datalayer.core.manifest_intake import ManifestIntake
from pointsman_datalayer.core.pool_demand import DemandBook
from pointsman_datalayer.core.pool_digest import DigestLimits, PoolDigests
from pointsman_datalayer.core.replica_recommendation import ReplicaLimits
from pointsman_datalayer.core.shards import Shards
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.core.watched_objects import WatchedObjects
from pointsman_datalayer.metrics import Metrics
from pointsman_datalayer.scraping import build_scraping
from pointsman_datalayer.settings import DatalayerSettings

LAYER = "datalayer"


async def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="pointsman-datalayer", description=__doc__)
    parser.add_argument("--config", help="YAML file of settings")
    path = parser.parse_args(arguments).config
    await run(load_settings(DatalayerSettings, prefix="DATALAYER_", path=path))


async def run(settings: DatalayerSettings) -> None:
    configure_log(level=settings.log_level, form=settings.log_format)
    clock, metrics, replica = SystemClock(), Metrics(), replica_id(LAYER)
    bus = NatsBus(settings.bus_url, clock, name=replica)
    stamp = EnvelopeStamp(replica, clock)

    registry = EndpointRegistry(
        ReadinessLimits(settings.unready_after_failures, settings.unready_after_s)
    )
    discovery = await find_sources(settings, clock, registry, metrics, replica=replica)
    shards = Shards(replica, decided=not settings.redis_url)
    leases = LeaseTable(edge_ttl_s=settings.edge_lease_ttl_s)
    decisions, roster = DecisionLog(capacity=settings.decisions_kept), LayerRoster()
    demand = DemandBook()
    meter = DemandMeter(clock, leases, demand)
    digests = PoolDigests(
        registry,
        leases.in_flight,
        digest_limits(settings),
        demand=demand,
        leases=leases.leases,
        queued=roster.queued,
    )
    publisher = PoolSnapshotPublisher(
        bus,
        clock,
        stamp,
        registry=registry,
        digests=digests,
        metrics=metrics,
        settings=settings,
        speaks=shards.speaks,
    )
    history = PoolHistory(
        settings.redis_url,
        clock,
        registry,
        digests,
        metrics,
        in_flight=leases.in_flight,
        speaks=shards.speaks,
        interval_s=settings.history_interval_s,
        stored=settings.history_stored,
    )
    keda = KedaScaler(clock, registry, digests)
    store = (
        RedisEndpointStore(
            settings.redis_url,
            clock,
            registry,
            publisher,
            metrics,
            decisions_stored=settings.decisions_stored,
        )
        if settings.redis_url
        else None
    )
    scraping = build_scraping(
        settings, clock, registry, metrics, shards=shards, in_flight=leases.in_flight
    )
    metrics.watch(registry, digests, leases.in_flight, lambda: bus.dropped)

    def keep_decision(receipt: DecisionReceipt, payload: bytes) -> None:
        if store is not None:
            store.keep_decision(receipt, payload)

    def settle(event: RequestFinished) -> None:
        meter.finished(event)
        decision, lease = decisions.finish(event), leases.get(event.lease_id)
        pool = lease.pool if lease else decision.pool if decision else ""
        if pool and store is not None:
            store.keep_finish(pool, event)
        if event.cause == "connection-failed" and lease is not None:
            scraping.scraper.hasten(lease.endpoint)

    def describe() -> DescribeResponse:
        return description(LAYER, replica, config_hash=config_hash(registry))

    state = LiveState(
        registry,
        digests,
        leases,
        roster,
        decisions,
        discovery.status,
        settings.metrics_stale_after_s,
    )
    rest = build_rest_api(
        state, clock, decisions, store, event_clients=settings.event_clients, history=history
    )
    admin = AdminApi(
        settings.admin_address,
        settings=settings,
        registry=metrics.registry,
        ready=lambda: registry.discovered,
        describe=describe,
        routers=[rest],
    )
    rpc = RpcServer(
        settings.listen_address,
        {**pool_hooks(registry, publisher), **keda.hooks},
        streams=keda.streams,
        describe=describe,
        ready=lambda: registry.discovered,
        transport=settings.rpc_transport,
    )
    heartbeat = Heartbeat(
        bus,
        clock,
        stamp,
        describe=describe,
        address=lambda: ",".join(rpc.bound),
        admin_url=lambda: f"http://{admin.bound}",
        pools=lambda: sorted(registry.pools()),
        gauges=lambda: {
            "endpoints": float(len(registry.addresses())),
            "own_endpoints": float(sum(map(shards.owns, registry.addresses()))),
        },
    )
    kv_events = KvEventReader(
        bus,
        clock,
        stamp,
        registry,
        metrics,
        ports=KvPorts(settings.kv_events_port, settings.kv_replay_port),
        mine=shards.owns,
    )
    shares = ShareExchange(
        bus, clock, stamp, registry, shards, interval_s=settings.delta_interval_s
    )
    optional: list[Part] = [store] if store is not None else []
    if settings.redis_url:
        optional.append(
            ReplicaLeases(
                settings.redis_url,
                clock,
                shards,
                metrics,
                ready=lambda: registry.discovered and bus.connected,
            )
        )
    if settings.external_metrics_address:
        app = build_external_metrics_api(clock, registry, digests)
        optional.append(external_metrics_part(settings, app))
    if settings.envoy_eds_path:
        optional.append(
            EnvoyEndpointFile(
                settings.envoy_eds_path, settings.envoy_eds_cluster, clock, registry, metrics
            )
        )
    await run_until_signalled(
        admin,
        rpc,
        *discovery.parts,
        scraping.scraper,
        *scraping.pollers,
        kv_events,
        shares,
        LeaseSubscriber(
            bus,
            clock,
            leases,
            stamp,
            on_picked=meter.picked,
            on_serving=meter.serving,
            on_finished=settle,
        ),
        history,
        keda,
        BusListener(bus, clock, decisions, roster, on_decision=keep_decision),
        publisher,
        *optional,
        heartbeat,
        bus,
        drain_s=settings.drain_s,
    )


def config_hash(registry: EndpointRegistry) -> str:
    """Of the configurations of all pools."""
    hashes = "".join(state.config.hash for state in registry.pools().values())
    return hashlib.sha256(hashes.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class DiscoverySources:
    """Where the pools come from: parts that run, and what became of what they found."""

    files: FileDiscovery
    kubernetes: KubernetesDiscovery | None
    intake: ManifestIntake
    parts: tuple[Part, ...]
    path: str

    def status(self) -> dict[str, Any]:
        """For the REST API and the console."""
        files, kubernetes = self.files.status, self.kubernetes
        in_force = self.intake.in_force
        return {
            "source": "kubernetes" if kubernetes else "files",
            "path": self.path,
            "accepted_at": files.accepted_at,
            "error": files.error or (kubernetes.error if kubernetes else ""),
            "refused_at": files.refused_at,
            "warnings": list(in_force.discovery.warnings if kubernetes else files.warnings),
            "refused": [{"object": place, "why": why} for place, why in in_force.refusals.items()],
            "watches": kubernetes.watches() if kubernetes else [],
        }


async def find_sources(
    settings: DatalayerSettings,
    clock: Clock,
    registry: EndpointRegistry,
    metrics: Metrics,
    *,
    replica: str,
) -> DiscoverySources:
    """Read the files, and connect to an API server where the pools are there.

    Raises:
        ManifestError: the files are refused.
        SettingsError: there is no usable configuration for the API server.
    """
    in_cluster = settings.discovery == "kubernetes"
    objects = WatchedObjects()
    intake = ManifestIntake(registry, objects if in_cluster else None)
    files = FileDiscovery(
        settings.manifests_path,
        clock,
        intake,
        metrics,
        poll_s=settings.manifests_poll_s,
        optional=in_cluster,
    )
    await files.load()
    if not in_cluster:
        return DiscoverySources(files, None, intake, (files,), settings.manifests_path)
    api = await KubernetesApi.connect(settings.kubeconfig)
    watch = KubernetesDiscovery(
        api,
        clock,
        objects,
        intake,
        metrics,
        namespaces=namespaces_of(settings.kubernetes_namespaces, api.own_namespace),
        watch_timeout_s=settings.kubernetes_watch_timeout_s,
        rng=Random(),
    )
    parts: list[Part] = [files, watch]
    if settings.kubernetes_write_status:
        parts.append(
            KubernetesStatusWriter(
                api, clock, objects, intake, metrics, identity=replica, rng=Random()
            )
        )
    return DiscoverySources(files, watch, intake, (*parts, api), settings.manifests_path)


def digest_limits(settings: DatalayerSettings) -> DigestLimits:
    return DigestLimits(
        stale_after_s=settings.metrics_stale_after_s,
        rise_s=settings.regime_rise_s,
        fall_s=settings.regime_fall_s,
        replicas=ReplicaLimits(
            target_saturation=settings.target_saturation,
            target_utilization=settings.target_utilization,
            ttft_slo_s=settings.ttft_slo_s,
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            up_s=settings.recommend_up_s,
            down_s=settings.recommend_down_s,
        ),
        scale_to_zero_after_s=settings.scale_to_zero_after_s,
    )


def external_metrics_part(settings: DatalayerSettings, app: FastAPI) -> HttpPart:
    """Raises SettingsError when only a part of its TLS is set."""
    certificate, key = settings.external_metrics_tls_cert, settings.external_metrics_tls_key
    if bool(certificate) != bool(key):
        raise SettingsError("external_metrics_tls_cert", "goes with external_metrics_tls_key")
    client_ca = settings.external_metrics_client_ca
    if client_ca and not certificate:
        raise SettingsError("external_metrics_client_ca", "goes with a certificate")
    tls = HttpTls(certificate, key, client_ca) if certificate else None
    address = settings.external_metrics_address
    return HttpPart(address, app, key="external_metrics_address", tls=tls)
