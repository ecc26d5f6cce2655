"""The composition root: which parts the router is made of."""

import argparse
from collections.abc import Callable
from pathlib import Path

from pointsman_common.admin_api import AdminApi
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock, SystemClock
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.endpoint_picker_config import config_hash, parse_endpoint_picker_config
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.errors import SettingsError
from pointsman_common.heartbeat import Heartbeat
from pointsman_common.identity import description, replica_id
from pointsman_common.lifecycle import Part, run_until_signalled
from pointsman_common.nats_bus import NatsBus
from pointsman_common.pool_subscriber import PoolSubscriber
from pointsman_common.pool_view import PoolView
from pointsman_common.rpc_channel import HookChannel
from pointsman_common.rpc_server import RpcServer
from pointsman_common.settings_loader import load_settings
from pointsman_common.structured_log import configure_log, get_logger
from pointsman_router.adapters.local_tokenizers import LocalTokenizers, load_tokenizers
from pointsman_router.adapters.routing_rpc_server import ROUTE, RoutingHook
from pointsman_router.adapters.rule_callouts import RuleCallouts
from pointsman_router.adapters.rule_entry_points import with_entry_points
from pointsman_router.adapters.rules_file import OWN, RulesFile
from pointsman_router.adapters.rules_page import rules_page
from pointsman_router.adapters.usage_learner import UsageLearner
from pointsman_router.core.pool_routers import PoolRouters
from pointsman_router.core.rules.callout_access import CalloutAccess
from pointsman_router.core.rules.policy_book import PolicyBook
from pointsman_router.core.token_ratio import TokenRatios
from pointsman_router.metrics import Metrics
from pointsman_router.plugins.rules.catalogue import rule_types
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

    def refused_policy(pool: str, policy: str, error: SettingsError) -> None:
        metrics.refused_policies.labels(pool, policy).inc()
        log.warning("route-policy-refused", pool=pool, policy=policy, error=str(error))

    def refused_file(error: SettingsError) -> None:
        policies.refuse_own(OWN, error)
        refused_policy("", OWN, error)

    def describe() -> DescribeResponse:
        return description(LAYER, replica, capabilities=("rules",), config_hash=own_hash)

    access = CalloutAccess(settings.callout_hosts, settings.callout_secret)
    policies = PolicyBook(
        with_entry_points(rule_types(access), settings.rule_types), refused_policy
    )
    ratios = TokenRatios()
    routers = PoolRouters(
        parse_endpoint_picker_config(own_config) if own_config else None,
        max_prefix_blocks=settings.max_prefix_blocks,
        forwarded_headers=settings.forwarded_headers,
        on_refused=refused,
        policies=policies,
        ratios=ratios,
    )
    routers.use_own_rules("settings", {"rules": settings.rules})
    metrics.pools.set_function(lambda: len(routers.pools()))
    metrics.rules.set_function(routers.rule_count)
    callouts = RuleCallouts(
        clock,
        metrics,
        budget_s=settings.callout_budget_s,
        circuit_failures=settings.callout_circuit_failures,
        circuit_open_s=settings.callout_circuit_open_s,
        transport=settings.rpc_transport,
    )
    tokenizers = _tokenizers(settings, metrics)
    hook = RoutingHook(
        routers,
        clock,
        metrics,
        read_usage=settings.read_usage,
        callouts=callouts,
        tokenizers=tokenizers,
    )

    bus = NatsBus(settings.bus_url, clock, name=replica)
    datalayer = HookChannel(
        settings.datalayer_url, clock, key="datalayer_url", transport=settings.rpc_transport
    )
    view = PoolView(max_age_s=float("inf"))

    def take_over(pool: str) -> None:
        record = view.get(pool)
        if record is None:
            routers.forget(pool)
        else:
            routers.use(record.config)

    view.on_change(take_over)

    parts: list[Part] = [callouts]
    if settings.learn_token_ratio:
        parts.append(_usage_learner(settings, bus, clock, ratios, view))
    if settings.rules_file:
        parts.append(_rules_file(settings, clock, routers, refused_file))

    def ready() -> bool:
        return bool(routers.pools())

    server = RpcServer(
        settings.listen_address,
        {ROUTE: hook},
        describe=describe,
        ready=ready,
        transport=settings.rpc_transport,
    )
    admin = AdminApi(
        settings.admin_address,
        settings=settings,
        registry=metrics.registry,
        ready=ready,
        describe=describe,
        routers=(rules_page(policies.described),),
    )
    try:
        await run_until_signalled(
            admin,
            server,
            *parts,
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
        if tokenizers:
            tokenizers.close()
        await datalayer.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pointsman_router", description=__doc__)
    parser.add_argument("--config", metavar="FILE", help="settings as YAML")
    return parser.parse_args()


def _rules_file(
    settings: RouterSettings,
    clock: Clock,
    routers: PoolRouters,
    on_refused: Callable[[SettingsError], None],
) -> RulesFile:
    file = RulesFile(
        settings.rules_file,
        clock,
        reload_s=settings.rules_reload_s,
        use=routers.use_own_rules,
        on_refused=on_refused,
    )
    file.load()
    return file


def _usage_learner(
    settings: RouterSettings, bus: Bus, clock: Clock, ratios: TokenRatios, view: PoolView
) -> UsageLearner:
    def block_tokens(pool: str) -> int | None:
        record = view.get(pool)
        return None if record is None else record.config.prefix_block_tokens

    return UsageLearner(
        bus, clock, ratios, block_tokens=block_tokens, max_blocks=settings.max_prefix_blocks
    )


def _tokenizers(settings: RouterSettings, metrics: Metrics) -> LocalTokenizers | None:
    loaded = load_tokenizers(settings.tokenizers)
    if not loaded:
        return None
    return LocalTokenizers(
        loaded,
        metrics,
        max_bytes=settings.tokenizer_max_bytes,
        timeout_s=settings.tokenizer_timeout_s,
        threads=settings.tokenizer_threads,
    )


def _read_config(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text()
    except OSError as error:
        raise SettingsError(
            "endpoint_picker_config_path", f"{path} cannot be read: {error.strerror}"
        ) from error
