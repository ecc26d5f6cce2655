"""A router for each pool, kept to the pool's configuration.

A pool may publish an EndpointPickerConfig, which then goes before the service's own, and
RoutePolicies, whose rules follow the service's own. What cannot be used leaves in force what was
there before.
"""

from collections.abc import Callable, KeysView, Sequence

from pointsman_common.endpoint_picker_config import (
    EndpointPickerConfig,
    parse_endpoint_picker_config,
)
from pointsman_common.errors import SettingsError
from pointsman_common.inference_pool import InferencePool
from pointsman_router.core.request_parsers.registry import ParserRegistry
from pointsman_router.core.request_router import RequestRouter
from pointsman_router.core.rules.policy_book import PolicyBook
from pointsman_router.core.token_ratio import TokenRatios


class PoolRouters:
    def __init__(
        self,
        own_config: EndpointPickerConfig | None,
        *,
        max_prefix_blocks: int,
        forwarded_headers: Sequence[str],
        on_refused: Callable[[str, SettingsError], None],
        policies: PolicyBook | None = None,
        ratios: TokenRatios | None = None,
    ) -> None:
        """`own_config` is for pools that publish none. `on_refused` is told of a pool's document
        that cannot be used. Without `policies` there are no rules.

        Raises:
            SettingsError: `own_config` asks for parsers that there are not.
        """
        self._own = ParserRegistry.from_config(own_config)
        self._max_prefix_blocks = max_prefix_blocks
        self._forwarded = [name.lower() for name in forwarded_headers]
        self._on_refused, self._policies = on_refused, policies
        self._ratios = ratios or TokenRatios()
        self._routers: dict[str, RequestRouter] = {}
        self._configs: dict[str, InferencePool] = {}
        self._parsers: dict[str, ParserRegistry] = {}

    def pools(self) -> KeysView[str]:
        return self._routers.keys()

    def get(self, pool: str) -> RequestRouter | None:
        return self._routers.get(pool)

    def use(self, pool: InferencePool) -> None:
        """Take over a pool's configuration. Cheap when it is the one in force."""
        known = self._configs.get(pool.name)
        if known is pool:
            return
        if known is None or known.endpoint_picker_config != pool.endpoint_picker_config:
            self._parsers[pool.name] = self._parsers_of(pool)
        self._configs[pool.name] = pool
        if self._policies:
            self._policies.use(pool.name, pool.route_policies)
        rules = self._policies.chain(pool.name) if self._policies else None
        router = self._routers.get(pool.name)
        if router is None:
            self._routers[pool.name] = RequestRouter(
                pool,
                self._parsers[pool.name],
                max_prefix_blocks=self._max_prefix_blocks,
                forwarded_headers=self._forwarded,
                rules=rules,
                ratios=self._ratios,
            )
        else:
            router.use(pool, self._parsers[pool.name], rules)

    def use_own_rules(self, name: str, spec: object) -> None:
        """Take over rules for all pools.

        Raises:
            SettingsError: they cannot be; those before stay.
        """
        if self._policies is None:
            return
        self._policies.use_own(name, spec)
        for pool, router in self._routers.items():
            router.use(self._configs[pool], self._parsers[pool], self._policies.chain(pool))

    def forget(self, pool: str) -> None:
        """Drop a pool that is no more: its requests are refused from now on."""
        for known in (self._routers, self._configs, self._parsers):
            known.pop(pool, None)
        if self._policies:
            self._policies.forget(pool)

    def rule_count(self) -> int:
        """Rules in force, over all pools."""
        return sum(len(router.rules.rules) for router in self._routers.values() if router.rules)

    def _parsers_of(self, pool: InferencePool) -> ParserRegistry:
        if not pool.endpoint_picker_config:
            return self._own
        try:
            config = parse_endpoint_picker_config(pool.endpoint_picker_config)
            return ParserRegistry.from_config(config)
        except SettingsError as error:
            self._on_refused(pool.name, error)
            return self._parsers.get(pool.name, self._own)
