"""Every metric of the router."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

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
        self._models: set[str] = set()
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
        self._rewrites.labels(rule, self._bounded(model), target).inc()

    def _bounded(self, model: str) -> str:
        """A client's model name as a label: from the 1001st on all are one."""
        if model not in self._models:
            if len(self._models) >= MAX_MODELS or len(model) > MAX_MODEL_CHARACTERS:
                return OTHER
            self._models.add(model)
        return model
