"""The scheduler, put together."""

import argparse
from pathlib import Path
from random import Random

from pointsman_common.admin_api import AdminApi
from pointsman_common.clock import SystemClock
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.endpoint_picker_config import config_hash
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.errors import SettingsError
from pointsman_common.heartbeat import Heartbeat
from pointsman_common.identity import description, replica_id
from pointsman_common.in_flight import LeaseTable
from pointsman_common.lease_subscriber import LeaseSubscriber
from pointsman_common.lifecycle import run_until_signalled
from pointsman_common.nats_bus import NatsBus
from pointsman_common.pool_subscriber import PoolSubscriber
from pointsman_common.pool_view import PoolView
from pointsman_common.rpc_channel import HookChannel
from pointsman_common.rpc_server import RpcServer
from pointsman_common.settings_loader import load_settings
from pointsman_common.structured_log import configure_log
from pointsman_scheduler.adapters.installed_plugins import with_installed
from pointsman_scheduler.adapters.kv_event_subscriber import KvEventSubscriber
from pointsman_scheduler.adapters.pool_config_watcher import PoolConfigWatcher
from pointsman_scheduler.adapters.prefix_peers import PrefixPeers
from pointsman_scheduler.adapters.receipt_publisher import ReceiptPublisher
from pointsman_scheduler.adapters.scheduling_rpc_server import PICK, SchedulingHook
from pointsman_scheduler.adapters.state_collector import StateCollector
from pointsman_scheduler.core.config import DEFAULT_POLICIES, compile_config
from pointsman_scheduler.core.picking import Picking, StateLimits
from pointsman_scheduler.metrics import Metrics
from pointsman_scheduler.plugins.catalogue import PLUGINS
from pointsman_scheduler.settings import SchedulerSettings
from pointsman_scheduler.shadow_app import run_shadow

CAPABILITIES = ("scores", "receipts", "fallbacks", "endpoint-picker-config")


async def main() -> None:
    settings = load_settings(SchedulerSettings, prefix="SCHEDULER_", path=_config_path())
    configure_log(level=settings.log_level, form=settings.log_format)
    if settings.role == "shadow":
        await run_shadow(settings, fallback_config(settings))
        return
    clock, metrics = SystemClock(), Metrics()
    replica = replica_id("scheduler")
    catalogue, fallback = with_installed(PLUGINS), fallback_config(settings)
    compile_config(fallback, catalogue)  # refuses the start, rather than the first pick

    bus = NatsBus(settings.bus_url, clock, name=replica)
    stamp = EnvelopeStamp(replica, clock)
    view = PoolView(max_age_s=settings.snapshot_max_age_s)
    leases = LeaseTable(
        edge_ttl_s=settings.edge_lease_ttl_s, provisional_ttl_s=settings.provisional_lease_ttl_s
    )
    picking = Picking(
        view,
        leases,
        catalogue,
        fallback,
        rng=Random(settings.seed or None),
        replica=replica.rpartition("/")[2],
        limits=StateLimits(
            fresh_s=settings.metrics_fresh_s,
            half_life_s=settings.metrics_half_life_s,
            max_blocks=settings.prefix_index_max_blocks,
        ),
    )
    PoolConfigWatcher(view, picking, metrics)
    metrics.collect_with(StateCollector(clock, view, leases, picking).collect)
    receipts = ReceiptPublisher(bus, clock, stamp, metrics, settings)

    def describe() -> DescribeResponse:
        return description(
            "scheduler", replica, capabilities=CAPABILITIES, config_hash=config_hash(fallback)
        )

    hook = SchedulingHook(clock, picking, receipts, metrics)
    server = RpcServer(
        settings.listen_address,
        {PICK: hook},
        describe=describe,
        ready=view.is_known,
        transport=settings.rpc_transport,
    )
    admin = AdminApi(
        settings.admin_address,
        settings=settings,
        registry=metrics.registry,
        ready=view.is_known,
        describe=describe,
    )
    await run_until_signalled(
        admin,
        Heartbeat(
            bus,
            clock,
            stamp,
            describe=describe,
            address=lambda: ",".join(server.bound),
            admin_url=lambda: f"http://{admin.bound}",
            pools=lambda: tuple(view.pools()),
            gauges=lambda: gauges(view, leases, clock.monotonic()),
        ),
        PoolSubscriber(
            bus,
            clock,
            view,
            datalayer=HookChannel(
                settings.datalayer_url,
                clock,
                key="datalayer_url",
                transport=settings.rpc_transport,
            ),
        ),
        LeaseSubscriber(
            bus,
            clock,
            leases,
            stamp,
            on_picked=picking.learn_pick,
            on_serving=picking.learn_first_token,
            on_finished=picking.learn_finish,
        ),
        KvEventSubscriber(bus, picking, metrics),
        PrefixPeers(bus, clock, stamp, picking),
        server,
        receipts,
        bus,
        drain_s=settings.drain_s,
    )


def fallback_config(settings: SchedulerSettings) -> str:
    """The configuration for pools that publish none.

    Raises:
        SettingsError: the file cannot be read.
    """
    path = settings.endpoint_picker_config_path
    if not path:
        return DEFAULT_POLICIES[settings.default_policy]
    try:
        return Path(path).read_text()
    except OSError as error:
        raise SettingsError(
            "endpoint_picker_config_path", f"{path} cannot be read: {error.strerror}"
        ) from error


def gauges(view: PoolView, leases: LeaseTable, now: float) -> dict[str, float]:
    """What the console shows of a scheduler."""
    return {
        "leases": float(len(leases)),
        "stale_state": float(not view.is_fresh(now)),
        "state_age_s": max((view.age_s(pool, now) for pool in view.pools()), default=0.0),
    }


def _config_path() -> str | None:
    parser = argparse.ArgumentParser(prog="pointsman_scheduler", description="The scheduler.")
    parser.add_argument("--config", metavar="FILE", help="settings as YAML")
    path: str | None = parser.parse_args().config
    return path
