"""The scheduler as a shadow, put together: it hears what production does, and serves nobody."""

from random import Random

from pointsman_common.admin_api import AdminApi
from pointsman_common.clock import Clock, SystemClock
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.endpoint_picker_config import config_hash
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.errors import SettingsError
from pointsman_common.heartbeat import Heartbeat
from pointsman_common.identity import description, replica_id
from pointsman_common.in_flight import LeaseTable
from pointsman_common.lifecycle import Part, run_until_signalled
from pointsman_common.nats_bus import NatsBus
from pointsman_common.pool_subscriber import PoolSubscriber
from pointsman_common.pool_view import PoolView
from pointsman_common.rpc_channel import HookChannel
from pointsman_scheduler.adapters.installed_plugins import with_installed
from pointsman_scheduler.adapters.shadow_bus import ShadowBus
from pointsman_scheduler.adapters.shadow_metrics import ShadowMetrics
from pointsman_scheduler.adapters.shadow_runner import ShadowRunner
from pointsman_scheduler.core.config import Catalogue, compile_config
from pointsman_scheduler.core.picking import Picking, StateLimits
from pointsman_scheduler.metrics import Metrics
from pointsman_scheduler.plugins.catalogue import PLUGINS
from pointsman_scheduler.plugins.scorers.predicted_latency_cost import (
    Parameters,
    PredictedLatencyCostScorer,
)
from pointsman_scheduler.settings import SchedulerSettings

LAYER = "shadow"
CAPABILITIES = ("endpoint-picker-config",)


async def run_shadow(settings: SchedulerSettings, config: str) -> None:
    """Until signalled. `config` is the EndpointPickerConfig that the shadow decides by.

    Raises:
        SettingsError: the shadow has no name, or the configuration cannot be used.
    """
    if not settings.shadow_name:
        raise SettingsError("shadow_name", "is empty, and role is shadow")
    catalogue = with_installed(PLUGINS)
    compile_config(config, catalogue)  # refuses the start
    clock = SystemClock()
    replica = replica_id(LAYER)
    nats = NatsBus(settings.bus_url, clock, name=replica)
    bus = ShadowBus(nats, settings.shadow_name)
    stamp = EnvelopeStamp(replica, clock)
    view = PoolView(max_age_s=settings.snapshot_max_age_s)
    metrics = Metrics()
    runner = build_shadow(
        bus,
        clock,
        stamp,
        view,
        settings=settings,
        config=config,
        metrics=metrics,
        catalogue=catalogue,
    )

    def describe() -> DescribeResponse:
        return description(
            LAYER, replica, capabilities=CAPABILITIES, config_hash=config_hash(config)
        )

    admin = AdminApi(
        settings.admin_address,
        settings=settings,
        registry=metrics.registry,
        ready=view.is_known,
        describe=describe,
    )
    heartbeat = Heartbeat(
        bus,
        clock,
        stamp,
        describe=describe,
        address=str,
        admin_url=lambda: f"http://{admin.bound}",
        pools=lambda: tuple(view.pools()),
        gauges=lambda: {"missed": float(runner.events.gaps), "withheld": float(bus.withheld)},
    )
    datalayer = HookChannel(
        settings.datalayer_url, clock, key="datalayer_url", transport=settings.rpc_transport
    )
    parts: tuple[Part, ...] = (
        admin,
        heartbeat,
        PoolSubscriber(bus, clock, view, datalayer=datalayer),
        runner.events,
        runner,
        nats,
    )
    await run_until_signalled(*parts, drain_s=settings.drain_s)


def build_shadow(
    bus: ShadowBus,
    clock: Clock,
    stamp: EnvelopeStamp,
    view: PoolView,
    *,
    settings: SchedulerSettings,
    config: str,
    metrics: Metrics,
    catalogue: Catalogue,
) -> ShadowRunner:
    """A shadow over a bus and a view that somebody else keeps.

    It decides by `config` in every pool: what the pools publish is production's.
    """
    leases = LeaseTable(
        edge_ttl_s=settings.edge_lease_ttl_s, provisional_ttl_s=settings.provisional_lease_ttl_s
    )
    rng = Random(settings.seed or None)
    picking = Picking(
        view,
        leases,
        catalogue,
        config,
        rng=rng,
        replica=settings.shadow_name,
        limits=StateLimits(
            fresh_s=settings.metrics_fresh_s,
            half_life_s=settings.metrics_half_life_s,
            max_blocks=settings.prefix_index_max_blocks,
        ),
    )
    return ShadowRunner(
        bus,
        clock,
        stamp,
        view=view,
        leases=leases,
        picking=picking,
        yardstick=PredictedLatencyCostScorer(Parameters()),
        metrics=ShadowMetrics(metrics.registry),
        settings=settings,
        rng=rng,
    )
