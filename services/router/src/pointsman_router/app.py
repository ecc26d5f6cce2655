"""The composition root: which parts the router is made of."""

import argparse
from pathlib import Path

from pointsman_common.admin_api import AdminApi
from pointsman_common.clock import SystemClock
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.endpoint_picker_config import config_hash, parse_endpoint_picker_config
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.errors import SettingsError
from pointsman_common.heartbeat import Heartbeat
from pointsman_common.identity import description, replica_id
from pointsman_common.lifecycle import run_until_signalled
from pointsman_common.nats_bus import NatsBus
from pointsman_common.pool_subscriber import PoolSubscriber
from pointsman_common.pool_view import PoolView
from pointsman_common.rpc_channel import HookChannel
from pointsman_common.rpc_server import RpcServer
from pointsman_common.settings_loader import load_settings
from pointsman_common.structured_log import configure_log, get_logger
from pointsman_router.adapters.routing_rpc_server import ROUTE, RoutingHook
from pointsman_router.core.pool_routers import PoolRouters
from pointsman_router.metrics import Metrics
from pointsman_router.settings import RouterSettings

log = get_logger("router")
LAYER = "router"


async def main() -> None:
    settings = load_settings(RouterSettings, prefix="ROUTER_", path=_arguments().config)
    configure_log(level=settings.log_level, form=settings.log_format)
    clock, metrics, replica = SystemClock(), Metrics(), replica_id(LAYER)
    own_config = _read_config(settings.endpoint_picker_config_path)
    own_hash = config_hash(own_config) if own_config else ""

    def refused(pool: str, error: SettingsError) -> None:
        metrics.refused_configs.labels(pool).inc()
        log.warning("endpoint-picker-config-refused", pool=pool, error=str(error))

    def describe() -> DescribeResponse:
        return description(LAYER, replica, config_hash=own_hash)

    routers = PoolRouters(
        parse_endpoint_picker_config(own_config) if own_config else None,
        max_prefix_blocks=settings.max_prefix_blocks,
        forwarded_headers=settings.forwarded_headers,
        on_refused=refused,
    )
    metrics.pools.set_function(lambda: len(routers.pools()))
    hook = RoutingHook(routers, clock, metrics, read_usage=settings.read_usage)

    bus = NatsBus(settings.bus_url, clock, name=replica)
    datalayer = HookChannel(settings.datalayer_url, clock, key="datalayer_url")
    view = PoolView(max_age_s=float("inf"))

    def take_over(pool: str) -> None:
        record = view.get(pool)
        if record is None:
            routers.forget(pool)
        else:
            routers.use(record.config)

    view.on_change(take_over)

    def ready() -> bool:
        return bool(routers.pools())

    server = RpcServer(settings.listen_address, {ROUTE: hook}, describe=describe, ready=ready)
    admin = AdminApi(
        settings.admin_address,
        settings=settings,
        registry=metrics.registry,
        ready=ready,
        describe=describe,
    )
    try:
        await run_until_signalled(
            admin,
            server,
            PoolSubscriber(
                bus, clock, view, datalayer=datalayer, poll_after_s=settings.pool_poll_s
            ),
            Heartbeat(
                bus,
                clock,
                EnvelopeStamp(replica, clock),
                describe=describe,
                address=lambda: ",".join(server.bound),
                admin_url=lambda: f"http://{admin.bound}",
                pools=lambda: sorted(routers.pools()),
            ),
            bus,
            drain_s=settings.drain_s,
        )
    finally:
        await datalayer.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pointsman_router", description=__doc__)
    parser.add_argument("--config", metavar="FILE", help="settings as YAML")
    return parser.parse_args()


def _read_config(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text()
    except OSError as error:
        raise SettingsError(
            "endpoint_picker_config_path", f"{path} cannot be read: {error.strerror}"
        ) from error
