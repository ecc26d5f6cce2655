"""`tenant-limit-policy`: so many requests and tokens per tenant and window, with a burst."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pointsman_flow_controller.core.plugin_protocols import UsageLimitPolicy
from pointsman_flow_controller.core.token_bucket import TokenBucket

MOST_TENANTS = 16_384
"""Fairness ids come from clients. Beyond these, who has used nothing lately is forgotten, then who
has used least."""


@dataclass(frozen=True, slots=True)
class TenantLimit:
    """0 requests or tokens: no limit on them."""

    requests: float = 0.0
    tokens: float = 0.0
    """Prompt tokens that were not cached, and output tokens, per window."""
    window_s: float = 60.0
    burst: float = 1.0
    """Windows whose allowance may be saved up."""


@dataclass(slots=True)
class _Use:
    requests: TokenBucket | None
    tokens: TokenBucket | None

    def buckets(self) -> Sequence[TokenBucket]:
        return [bucket for bucket in (self.requests, self.tokens) if bucket is not None]


@dataclass(slots=True)
class TenantLimitPolicy:
    """A tenant is a fairness id, over all its priorities.

    A request is counted when it is taken, what it costs beyond its prompt when that is known: a
    tenant may thus get into debt by the output of what it has in flight, and waits it off. What
    other replicas let go is counted when they tell of it, so that a limit is exceeded by no more
    than they take in one exchange.
    """

    ceilings: UsageLimitPolicy
    """Says how far each priority may go."""
    default: TenantLimit = TenantLimit()
    tenants: Mapping[str, TenantLimit] = field(default_factory=dict[str, TenantLimit])
    limits_tenants: bool = True
    _uses: dict[str, _Use] = field(default_factory=dict[str, _Use])

    def ceiling(self, priority: int, priorities: Sequence[int]) -> float:
        return self.ceilings.ceiling(priority, priorities)

    def take(self, tenant: str, tokens: int, now: float) -> float:
        use = self._use(tenant, now)
        wait_s = 0.0
        if use.requests is not None:
            wait_s = use.requests.wait_s(1.0, now)
        if use.tokens is not None:
            wait_s = max(wait_s, use.tokens.wait_s(tokens, now))
        if wait_s == 0.0:
            self.spent(tenant, 1.0, tokens, now)
        return wait_s

    def spent(self, tenant: str, requests: float, tokens: float, now: float) -> None:
        use = self._use(tenant, now)
        if use.requests is not None:
            use.requests.use(requests, now)
        if use.tokens is not None:
            use.tokens.use(tokens, now)

    def inherit(self, previous: UsageLimitPolicy) -> None:
        """What was used stays used; a limit that has changed begins anew."""
        if isinstance(previous, TenantLimitPolicy):
            self._uses = {
                tenant: use
                for tenant, use in previous._uses.items()
                if previous._limit(tenant) == self._limit(tenant)
            }

    def _limit(self, tenant: str) -> TenantLimit:
        return self.tenants.get(tenant, self.default)

    def _use(self, tenant: str, now: float) -> _Use:
        use = self._uses.get(tenant)
        if use is None:
            if len(self._uses) >= MOST_TENANTS:
                self._forget(now)
            limit = self._limit(tenant)
            use = self._uses[tenant] = _Use(
                _bucket(limit.requests, limit, now), _bucket(limit.tokens, limit, now)
            )
        return use

    def _forget(self, now: float) -> None:
        kept = {
            tenant: use
            for tenant, use in self._uses.items()
            if not all(bucket.is_full(now) for bucket in use.buckets())
        }
        if len(kept) > MOST_TENANTS // 2:
            lowest_first = sorted(kept, key=lambda tenant: _level(kept[tenant]))
            kept = {tenant: kept[tenant] for tenant in lowest_first[: MOST_TENANTS // 2]}
        self._uses = kept


def _bucket(per_window: float, limit: TenantLimit, now: float) -> TokenBucket | None:
    if not per_window:
        return None
    capacity = per_window * limit.burst
    return TokenBucket(capacity, per_window / limit.window_s, capacity, now)


def _level(use: _Use) -> float:
    return min((bucket.level / bucket.capacity for bucket in use.buckets()), default=1.0)
