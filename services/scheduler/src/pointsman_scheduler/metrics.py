"""Every metric of the scheduler. Names are llm-d-router's where it has one."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pointsman_common.endpoint import Endpoint

_SECONDS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0)
_RATIO = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

PREFIX_PLUGIN = ("approx-prefix-cache-producer", "approx-prefix-cache-producer")


class Metrics:
    """`models` are told apart in labels, the others are `other`; `attempt_series` is the most of
    the picks counted by model and endpoint."""

    def __init__(self, *, models: int = 1000, attempt_series: int = 10_000) -> None:
        self._most_models, self._most_series = models, attempt_series
        self.registry = CollectorRegistry()
        self._models: set[str] = set()
        self._attempt_children: dict[tuple[str, str, str], Counter] = {}
        self.duration = Histogram(
            "llm_d_epp_scheduler_e2e_duration_seconds",
            "From the question to the decision.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._attempts = Counter(
            "llm_d_epp_scheduler_attempts",
            "Picks, by how they ended and where they go.",
            ("status", "target_model_name", "endpoint_name", "namespace", "port"),
            registry=self.registry,
        )
        hit_ratio = Histogram(
            "llm_d_epp_prefix_indexer_hit_ratio",
            "Share of the prompt's blocks that the chosen endpoint likely holds.",
            ("plugin_name", "plugin_type"),
            buckets=_RATIO,
            registry=self.registry,
        )
        self.hit_ratio = hit_ratio.labels(*PREFIX_PLUGIN)
        self.receipts_dropped = Counter(
            "pointsman_scheduler_receipts_dropped",
            "Receipts dropped because too many waited to be written.",
            registry=self.registry,
        )
        self.kv_blocks = Counter(
            "pointsman_scheduler_kv_event_blocks",
            "Blocks stored or removed by engines that corrected the prefix index.",
            registry=self.registry,
        )
        self.kv_gaps = Counter(
            "pointsman_scheduler_kv_event_gaps",
            "Times that messages about an engine's cache were missing.",
            registry=self.registry,
        )
        self.config_refused = Counter(
            "pointsman_scheduler_config_refused",
            "Published configurations that could not be used; the old one stayed in force.",
            ("pool",),
            registry=self.registry,
        )
        self.config_in_force = Gauge(
            "pointsman_scheduler_config_info",
            "1 for the configuration in force of each pool.",
            ("pool", "config_hash"),
            registry=self.registry,
        )

    def attempt(self, status: str, model: str, endpoint: Endpoint | None) -> None:
        """Count a pick; `status` is success or failure."""
        if model not in self._models:
            if len(self._models) < self._most_models:
                self._models.add(model)
            else:
                model = "other"
        key = (status, model, endpoint.address if endpoint else "")
        child = self._attempt_children.get(key)
        if child is None:
            child = self._attempt_children[key] = self._new_attempt(status, model, endpoint)
        child.inc()

    def _new_attempt(self, status: str, model: str, endpoint: Endpoint | None) -> Counter:
        namespace, _, name = (endpoint.name if endpoint else "").partition("/")
        port = endpoint.address.rpartition(":")[2] if endpoint else ""
        if len(self._attempt_children) >= self._most_series:
            # Endpoints come and go for as long as the service runs: begin anew, as after a restart.
            self._attempt_children.clear()
            self._attempts.clear()
        return self._attempts.labels(status, model, name, namespace, port)

    def note_config(self, pool: str, old_hash: str, new_hash: str) -> None:
        """The configuration in force of a pool changed; no new one: the pool is gone."""
        if old_hash and old_hash != new_hash:
            self.config_in_force.remove(pool, old_hash)
        if new_hash:
            self.config_in_force.labels(pool, new_hash).set(1)

    def collect_with(self, collect: Callable[[], Iterable[Metric]]) -> None:
        """Have more series read at each scrape."""
        self.registry.register(_Reader(collect))


class _Reader(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        return ()


def state_counters() -> dict[str, CounterMetricFamily]:
    """Families that are counted in the state, by a short name."""
    return {
        "decays": CounterMetricFamily(
            "pointsman_scheduler_lease_decays",
            "Times that an endpoint's leases began to count less, since its engine reported less "
            "work for more than 5 s.",
            labels=("pool",),
        ),
        "guessed": CounterMetricFamily(
            "pointsman_scheduler_guessed_first_tokens",
            "First tokens taken for come by the clock, since their edges do not tell of any.",
        ),
    }


def state_gauges() -> dict[str, GaugeMetricFamily]:
    """Families that are read from the state at each scrape, by a short name."""
    in_flight = ("endpoint_name", "namespace", "producer_name", "fairness_id", "priority")
    return {
        "requests": GaugeMetricFamily(
            "llm_d_epp_inflight_requests",
            "Requests picked and not yet finished, of all replicas.",
            labels=in_flight,
        ),
        "tokens": GaugeMetricFamily(
            "llm_d_epp_inflight_tokens",
            "Uncached prompt tokens picked whose first token is not back, of all replicas.",
            labels=in_flight,
        ),
        "index": GaugeMetricFamily(
            "llm_d_epp_prefix_indexer_size",
            "Entries of the prefix indexes: each block once for every endpoint that holds it.",
            labels=("plugin_name", "plugin_type"),
        ),
        "age": GaugeMetricFamily(
            "pointsman_scheduler_state_age_seconds",
            "Seconds since the pool's state was last heard of.",
            labels=("pool",),
        ),
        "difference": GaugeMetricFamily(
            "pointsman_scheduler_lease_engine_difference",
            "Leases of an endpoint minus the running and waiting requests that its engine reports.",
            labels=("pool", "endpoint_name"),
        ),
        "disbelieved": GaugeMetricFamily(
            "pointsman_scheduler_disbelieved_leases",
            "Leases that count less and less, since no engine reports work for them.",
            labels=("pool",),
        ),
        "speed": GaugeMetricFamily(
            "pointsman_scheduler_endpoint_speed",
            "Time that an endpoint takes to prefill, relative to the constants of the policy, as "
            "learned or as its label says.",
            labels=("pool", "endpoint_name"),
        ),
    }
