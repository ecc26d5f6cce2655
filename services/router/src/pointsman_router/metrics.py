"""Every metric of the router."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pointsman_router.core.rules.rule_chain import RuleReport

OTHER = "other"
NO_API = "unknown"
MAX_MODELS = 1000
MAX_MODEL_CHARACTERS = 256


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._route_duration = Histogram(
            "pointsman_router_route_duration_seconds",
            "From a RouteRequest's bytes to its answer's.",
            ["api"],
            registry=self.registry,
            buckets=(5e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3, 0.0128, 0.0512, 0.2, 1),
        )
        self._requests = Counter(
            "pointsman_router_requests_total",
            "Requests by API and outcome: routed, or the code of the refusal.",
            ["api", "outcome"],
            registry=self.registry,
        )
        self.pools = Gauge(
            "pointsman_router_pools", "Pools that are known.", registry=self.registry
        )
        self.refused_configs = Counter(
            "pointsman_router_refused_configs_total",
            "EndpointPickerConfigs of pools that could not be used; the one before stays in force.",
            ["pool"],
            registry=self.registry,
        )
        self._rewrites = Counter(
            "llm_d_epp_model_rewrite_decisions_total",
            "Requests whose target model a rule has chosen.",
            ["model_rewrite_name", "model_name", "target_model"],
            registry=self.registry,
        )
        self.refused_policies = Counter(
            "pointsman_router_refused_policies_total",
            "RoutePolicies that could not be used; the rules before stay in force. `pool` is empty "
            "for the router's own rules.",
            ["pool", "policy"],
            registry=self.registry,
        )
        self.rules = Gauge(
            "pointsman_router_rules", "Rules in force, over all pools.", registry=self.registry
        )
        self._rule_results = Counter(
            "pointsman_router_rule_requests_total",
            "Requests that a rule matched, by what it did: changed, passed, refused, or, where it "
            "failed, skipped and failed by its onFailure.",
            ["rule", "result"],
            registry=self.registry,
        )
        self._rule_failures = Counter(
            "pointsman_router_rule_failures_total",
            "Failures of rules: timeout, unreachable, bad-reply, busy, circuit-open, unsuitable or "
            "error.",
            ["rule", "kind"],
            registry=self.registry,
        )
        self.rule_callouts = Histogram(
            "pointsman_router_rule_callout_duration_seconds",
            "From what a rule asks of another service to its answer or failure.",
            ["rule"],
            registry=self.registry,
            buckets=(1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
        )
        self.tokenized = Counter(
            "pointsman_router_tokenized_requests_total",
            "Requests for models with a tokenizer: exact, or estimated since too-long, busy, "
            "timeout or failed.",
            ["result"],
            registry=self.registry,
        )
        self._models: set[str] = set()
        self._rewritten: dict[tuple[str, str, str], Counter] = {}
        self._routed: dict[str, tuple[Counter, Histogram]] = {}

    def count_routed(self, api: str, duration_s: float) -> None:
        children = self._routed.get(api)
        if children is None:
            children = self._requests.labels(api, "routed"), self._route_duration.labels(api)
            self._routed[api] = children
        children[0].inc()
        children[1].observe(duration_s)

    def count_refused(self, code: str) -> None:
        self._requests.labels(NO_API, code).inc()

    def count_rewrite(self, rule: str, model: str, target: str) -> None:
        key = rule, self._bounded(model), target
        child = self._rewritten.get(key)
        if child is None:
            child = self._rewritten[key] = self._rewrites.labels(*key)
        child.inc()

    def count_rules(self, report: RuleReport) -> None:
        for rule, result in report.results:
            self._rule_results.labels(rule, result).inc()
        for rule, kind, _ in report.failures:
            self._rule_failures.labels(rule, kind).inc()

    def _bounded(self, model: str) -> str:
        """A client's model name as a label: from the 1001st on all are one."""
        if model not in self._models:
            if len(self._models) >= MAX_MODELS or len(model) > MAX_MODEL_CHARACTERS:
                return OTHER
            self._models.add(model)
        return model
