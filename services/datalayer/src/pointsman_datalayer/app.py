"""The datalayer, told as a short story."""

import argparse
import hashlib
from random import Random
from typing import Any

from pointsman_common.admin_api import AdminApi
from pointsman_common.clock import SystemClock
from pointsman_common.contracts.events_pb2 import RequestFinished
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.heartbeat import Heartbeat
from pointsman_common.identity import description, replica_id
from pointsman_common.in_flight import LeaseTable
from pointsman_common.lease_subscriber import LeaseSubscriber
from pointsman_common.lifecycle import Part, run_until_signalled
from pointsman_common.nats_bus import NatsBus
from pointsman_common.rpc_server import RpcServer
from pointsman_common.settings_loader import load_settings
from pointsman_common.structured_log import configure_log
from pointsman_datalayer.adapters.bus_listener import BusListener
from pointsman_datalayer.adapters.envoy_endpoint_file import EnvoyEndpointFile
from pointsman_datalayer.adapters.file_discovery import FileDiscovery
from pointsman_datalayer.adapters.metrics_scraper import MetricsScraper, open_http_fetcher
from pointsman_datalayer.adapters.pool_rpc_server import pool_hooks
from pointsman_datalayer.adapters.pool_snapshot_publisher import PoolSnapshotPublisher
from pointsman_datalayer.adapters.redis_endpoint_store import RedisEndpointStore
from pointsman_datalayer.adapters.rest_api import build_rest_api
from pointsman_datalayer.core.decision_log import DecisionLog
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.layer_roster import LayerRoster
from pointsman_datalayer.core.live_state import LiveState
from pointsman_datalayer.core.pool_digest import DigestLimits, PoolDigests
from pointsman_datalayer.core.replica_recommendation import ReplicaLimits
from pointsman_datalayer.core.scrape_schedule import ScrapeIntervals, ScrapeSchedule
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.metrics import Metrics
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
    discovery = FileDiscovery(
        settings.manifests_path, clock, registry, metrics, poll_s=settings.manifests_poll_s
    )
    await discovery.load()

    leases = LeaseTable(edge_ttl_s=settings.edge_lease_ttl_s)
    digests = PoolDigests(registry, leases.in_flight, digest_limits(settings))
    publisher = PoolSnapshotPublisher(
        bus,
        clock,
        stamp,
        registry=registry,
        digests=digests,
        metrics=metrics,
        settings=settings,
    )
    decisions, roster = DecisionLog(capacity=settings.decisions_kept), LayerRoster()
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
    intervals = ScrapeIntervals(settings.scrape_interval_s, settings.scrape_idle_interval_s)
    scraper = MetricsScraper(
        clock,
        registry,
        ScrapeSchedule(intervals, Random()),
        metrics,
        open_fetcher=lambda: open_http_fetcher(
            settings.scrape_timeout_s, settings.scrape_max_bytes
        ),
        in_flight=leases.in_flight,
        path=settings.scrape_path,
    )
    metrics.watch(registry, digests, leases.in_flight, lambda: bus.dropped)

    def keep_decision(receipt: DecisionReceipt, payload: bytes) -> None:
        if store is not None:
            store.keep_decision(receipt, payload)

    def settle(event: RequestFinished) -> None:
        decision, lease = decisions.finish(event), leases.get(event.lease_id)
        pool = lease.pool if lease else decision.pool if decision else ""
        if pool and store is not None:
            store.keep_finish(pool, event)
        if event.cause == "connection-failed" and lease is not None:
            scraper.hasten(lease.endpoint)

    def describe() -> DescribeResponse:
        hashes = "".join(state.config.hash for state in registry.pools().values())
        digest = hashlib.sha256(hashes.encode()).hexdigest()[:16]
        return description(LAYER, replica, config_hash=digest)

    def discovery_status() -> dict[str, Any]:
        status = discovery.status
        return {
            "path": settings.manifests_path,
            "accepted_at": status.accepted_at,
            "error": status.error,
            "refused_at": status.refused_at,
            "warnings": list(status.warnings),
        }

    state = LiveState(
        registry,
        digests,
        leases,
        roster,
        decisions,
        discovery_status,
        settings.metrics_stale_after_s,
    )
    rest = build_rest_api(state, clock, decisions, store, event_clients=settings.event_clients)
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
        pool_hooks(registry, publisher),
        describe=describe,
        ready=lambda: registry.discovered,
    )
    heartbeat = Heartbeat(
        bus,
        clock,
        stamp,
        describe=describe,
        address=lambda: ",".join(rpc.bound),
        admin_url=lambda: f"http://{admin.bound}",
        pools=lambda: sorted(registry.pools()),
        gauges=lambda: {"endpoints": float(len(registry.addresses()))},
    )
    optional: list[Part] = [store] if store is not None else []
    if settings.envoy_eds_path:
        optional.append(
            EnvoyEndpointFile(
                settings.envoy_eds_path, settings.envoy_eds_cluster, clock, registry, metrics
            )
        )
    await run_until_signalled(
        admin,
        rpc,
        discovery,
        scraper,
        LeaseSubscriber(bus, clock, leases, stamp, on_finished=settle),
        BusListener(bus, clock, decisions, roster, on_decision=keep_decision),
        publisher,
        *optional,
        heartbeat,
        bus,
        drain_s=settings.drain_s,
    )


def digest_limits(settings: DatalayerSettings) -> DigestLimits:
    return DigestLimits(
        stale_after_s=settings.metrics_stale_after_s,
        rise_s=settings.regime_rise_s,
        fall_s=settings.regime_fall_s,
        replicas=ReplicaLimits(
            target_saturation=settings.target_saturation,
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            up_s=settings.recommend_up_s,
            down_s=settings.recommend_down_s,
        ),
    )
