"""The composition root: which parts the flow controller is made of."""

import argparse
from collections.abc import Callable
from pathlib import Path

from pointsman_common.admin_api import AdminApi
from pointsman_common.clock import SystemClock
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.endpoint_picker_config import config_hash, parse_endpoint_picker_config
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
from pointsman_common.structured_log import configure_log, get_logger
from pointsman_flow_controller.adapters.dispatch_worker import DispatchWorker, PolicyReader
from pointsman_flow_controller.adapters.dispatch_workers import DispatchWorkers
from pointsman_flow_controller.adapters.eviction_publisher import EvictionPublisher
from pointsman_flow_controller.adapters.flow_rpc_server import ADMIT, AdmitHook, FlowRpcServer
from pointsman_flow_controller.adapters.flow_shares_exchange import FlowSharesExchange
from pointsman_flow_controller.adapters.flow_stats_publisher import FlowStatsPublisher
from pointsman_flow_controller.core.flow_policy import FlowPolicy
from pointsman_flow_controller.core.flow_policy_reader import Defaults, read_flow_policy
from pointsman_flow_controller.core.own_policy import own_policy
from pointsman_flow_controller.metrics import Metrics
from pointsman_flow_controller.plugins.catalogue import catalogue
from pointsman_flow_controller.plugins.saturation.concurrency import ConcurrencyDetector
from pointsman_flow_controller.settings import FlowControllerSettings

LAYER = "flow-controller"

log = get_logger("flow-controller")


async def main() -> None:
    path = _arguments().config
    settings = load_settings(FlowControllerSettings, prefix="FLOW_CONTROLLER_", path=path)
    configure_log(level=settings.log_level, form=settings.log_format)
    clock, metrics, replica = SystemClock(), Metrics(), replica_id(LAYER)
    own_config = _read_file(settings.endpoint_picker_config_path)
    read_policy = policy_reader(settings, own_config)

    bus = NatsBus(settings.bus_url, clock, name=replica)
    stamp = EnvelopeStamp(replica, clock)
    transport = settings.rpc_transport
    datalayer = HookChannel(settings.datalayer_url, clock, key="datalayer_url", transport=transport)
    view = PoolView(max_age_s=settings.blind_after_s)
    leases = LeaseTable(edge_ttl_s=settings.edge_lease_ttl_s)

    evictions = EvictionPublisher(bus, stamp)

    def make_worker(pool: str, set_timer: Callable[[float], None]) -> DispatchWorker:
        return DispatchWorker(
            pool,
            clock=clock,
            view=view,
            leases=leases,
            metrics=metrics,
            read_policy=read_policy,
            make_blind_detector=lambda: ConcurrencyDetector(
                max_requests=settings.blind_max_concurrency, max_tokens=1
            ),
            blind_after_s=settings.blind_after_s,
            set_timer=set_timer,
            replica=replica,
            on_evict=evictions.publish,
        )

    workers = DispatchWorkers(clock, view, leases, make_worker)

    def describe() -> DescribeResponse:
        return description(LAYER, replica, config_hash=config_hash(own_config))

    server = RpcServer(
        settings.listen_address,
        {ADMIT: AdmitHook(workers, clock)},
        describe=describe,
        ready=view.is_known,
        transport=transport,
    )
    admin = AdminApi(
        settings.admin_address,
        settings=settings,
        registry=metrics.registry,
        ready=view.is_known,
        describe=describe,
    )
    try:
        await run_until_signalled(
            admin,
            FlowRpcServer(server, workers, clock),
            workers,
            PoolSubscriber(
                bus, clock, view, datalayer=datalayer, poll_after_s=settings.pool_poll_s
            ),
            LeaseSubscriber(
                bus,
                clock,
                leases,
                stamp,
                on_picked=workers.on_picked,
                on_serving=workers.on_serving,
                on_finished=workers.on_finished,
            ),
            FlowSharesExchange(
                bus, clock, stamp, workers, interval_s=settings.flow_shares_interval_s
            ),
            FlowStatsPublisher(
                bus,
                clock,
                stamp,
                workers,
                leases.in_flight,
                interval_s=settings.flow_stats_interval_s,
                most_flows=settings.flow_stats_flows,
            ),
            Heartbeat(
                bus,
                clock,
                stamp,
                describe=describe,
                address=lambda: ",".join(server.bound),
                admin_url=lambda: f"http://{admin.bound}",
                pools=lambda: sorted(view.pools()),
                gauges=lambda: {"queued": sum(worker.waiting for worker in workers.all())},
            ),
            bus,
            drain_s=settings.drain_s,
        )
    finally:
        await datalayer.close()


def policy_reader(settings: FlowControllerSettings, own_config: str) -> PolicyReader:
    """What turns a pool's EndpointPickerConfig into its policy; the service's own for an empty one.

    Raises:
        SettingsError: the service's own configuration cannot be used.
    """
    types = catalogue(staleness_floor_s=settings.metrics_staleness_floor_s)
    defaults = Defaults(
        band_requests=settings.band_capacity_requests,
        band_bytes=settings.band_capacity_bytes,
        ttl_s=settings.queue_ttl_s,
    )

    def read(text: str) -> FlowPolicy:
        if not text:
            return own
        config = parse_endpoint_picker_config(text)
        return read_flow_policy(config, types, defaults=defaults, mode=settings.flow_control)

    own = own_policy(settings, types)
    if own_config:
        own = read(own_config)
    return read


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pointsman_flow_controller", description=__doc__)
    parser.add_argument("--config", metavar="FILE", help="settings as YAML")
    return parser.parse_args()


def _read_file(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        where = "endpoint_picker_config_path"
        raise SettingsError(where, f"{path} cannot be read: {error.strerror}") from error
