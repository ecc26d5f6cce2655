"""Every metric of the datalayer: upstream's names where it has one, its old names beside them."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pointsman_common.endpoint import Endpoint
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.pool_digest import PoolDigests
from pointsman_datalayer.core.scarcity_regime import scarcity_name

_MEANS = (
    ("average_kv_cache_utilization", "std_dev_kv_cache_utilization", "kv_cache_utilization"),
    ("average_queue_size", "std_dev_queue_size", "waiting_requests"),
    ("average_running_requests", "std_dev_running_requests", "running_requests"),
)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._poll_errors = [
            Counter(
                f"{prefix}_datalayer_poll_errors",
                "Reads of an endpoint by a source that failed",
                ["source_type"],
                registry=self.registry,
            )
            for prefix in _UPSTREAM
        ]
        self._extract_errors = [
            Counter(
                f"{prefix}_datalayer_extract_errors",
                "What a source brought and an extractor could not read, or not in full",
                ["source_type", "extractor_type"],
                registry=self.registry,
            )
            for prefix in _UPSTREAM
        ]
        self.source_problems = Gauge(
            "pointsman_datalayer_source_problems",
            "Endpoints that a further source could not read, or not in full, when it last tried",
            ["source"],
            registry=self.registry,
        )
        self.scrapes = Counter(
            "pointsman_datalayer_scrapes",
            "Scrapes by outcome: read, nonsense or unreachable",
            ["outcome"],
            registry=self.registry,
        )
        self.scrape_seconds = Histogram(
            "pointsman_datalayer_scrape_duration_seconds",
            "From asking an engine for its metrics to having read them",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
            registry=self.registry,
        )
        self.config_reloads = Counter(
            "pointsman_datalayer_config_reloads",
            "Readings of changed manifests: accepted or refused",
            ["result"],
            registry=self.registry,
        )
        self.config_refused = Gauge(
            "pointsman_datalayer_config_refused",
            "Sources or objects whose newest version is not in force: 0 is well",
            registry=self.registry,
        )
        self._refused: dict[str, int] = {}
        self.watch_lists = Counter(
            "pointsman_datalayer_kubernetes_lists",
            "Lists read from the API server: one at the start, one after each 410 Gone",
            ["kind"],
            registry=self.registry,
        )
        self.watch_events = Counter(
            "pointsman_datalayer_kubernetes_events",
            "Events of the watches, bookmarks among them",
            ["kind", "type"],
            registry=self.registry,
        )
        self.watch_failures = Counter(
            "pointsman_datalayer_kubernetes_failures",
            "Lists and watches that failed; a stream that ends in its time is none",
            ["kind"],
            registry=self.registry,
        )
        self.status_writes = Counter(
            "pointsman_datalayer_kubernetes_status_writes",
            "Status patches by result: written, conflict or failed",
            ["result"],
            registry=self.registry,
        )
        self.leads = Gauge(
            "pointsman_datalayer_kubernetes_leads",
            "1 while this replica writes the status of the objects",
            registry=self.registry,
        )
        self.bus_messages = Counter(
            "pointsman_datalayer_bus_messages",
            "Messages published: config, snapshot or delta",
            ["kind"],
            registry=self.registry,
        )
        self.redis_up = Gauge(
            "pointsman_datalayer_redis_up", "1 while Redis answers", registry=self.registry
        )
        self.redis_dropped = Counter(
            "pointsman_datalayer_redis_dropped",
            "Decisions and request ends that were not stored, since Redis was away for too long",
            registry=self.registry,
        )
        self.kv_blocks = Counter(
            "pointsman_datalayer_kv_blocks",
            "KV blocks told as stored or removed, by the chain of their hashes",
            ["chain"],
            registry=self.registry,
        )
        self.kv_gaps = Counter(
            "pointsman_datalayer_kv_gaps",
            "Times that batches of KV events were missing",
            registry=self.registry,
        )
        self.kv_replays = Counter(
            "pointsman_datalayer_kv_replays",
            "Replays asked for, by result: answered or empty",
            ["result"],
            registry=self.registry,
        )
        self.kv_cleared = Counter(
            "pointsman_datalayer_kv_cleared",
            "Times that all blocks of an endpoint were told as gone: a restart, or a lasting gap",
            registry=self.registry,
        )
        self.kv_unreadable = Counter(
            "pointsman_datalayer_kv_unreadable",
            "Batches of KV events that could not be read",
            registry=self.registry,
        )
        self.replicas = Gauge(
            "pointsman_datalayer_replicas",
            "Replicas that share the endpoints, as Redis knew them last; 0: not asked",
            registry=self.registry,
        )
        self.envoy_file_errors = Counter(
            "pointsman_datalayer_envoy_file_errors",
            "Times that Envoy's endpoint file could not be written",
            registry=self.registry,
        )

    def refused(self, source: str, count: int) -> None:
        """How much of a source (files, kubernetes) is refused at the moment."""
        self._refused[source] = count
        self.config_refused.set(sum(self._refused.values()))

    def source_failed(self, source_type: str) -> None:
        for counter in self._poll_errors:
            counter.labels(source_type).inc()

    def extract_failed(self, source_type: str, extractor_type: str) -> None:
        for counter in self._extract_errors:
            counter.labels(source_type, extractor_type).inc()

    def watch(
        self,
        registry: EndpointRegistry,
        digests: PoolDigests,
        in_flight: Callable[[str], int],
        bus_dropped: Callable[[], int],
    ) -> None:
        """Have the gauges of pools and endpoints read from the state whenever they are asked."""
        self.registry.register(_PoolCollector(registry, digests, in_flight, bus_dropped))


_UPSTREAM = ("llm_d_epp", "llm_d_inference_scheduler")


class _PoolCollector(Collector):
    def __init__(
        self,
        registry: EndpointRegistry,
        digests: PoolDigests,
        in_flight: Callable[[str], int],
        bus_dropped: Callable[[], int],
    ) -> None:
        self._registry, self._digests = registry, digests
        self._in_flight, self._bus_dropped = in_flight, bus_dropped

    def collect(self) -> Iterator[GaugeMetricFamily]:
        pools = {
            name: [endpoint for endpoint in self._registry.endpoints(name) if endpoint.ready]
            for name in self._registry.pools()
        }
        yield from _averages(pools)
        yield from _queue_sizes(pools)
        yield from self._regimes(pools)
        dropped = GaugeMetricFamily(
            "pointsman_datalayer_bus_dropped_messages", "Messages dropped while the bus was away"
        )
        dropped.add_metric([], self._bus_dropped())
        yield dropped

    def _regimes(self, pools: dict[str, list[Endpoint]]) -> Iterator[GaugeMetricFamily]:
        saturation = _gauge("pointsman_datalayer_pool_saturation", "1.0 is full")
        scarcity = _gauge("pointsman_datalayer_pool_scarcity", "1 for the regime", "regime")
        replicas = _gauge("pointsman_datalayer_recommended_replicas", "Asked for by the load")
        stale = _gauge("pointsman_datalayer_stale_endpoints", "Ready, with old metrics")
        utilization = _gauge(
            "pointsman_datalayer_pool_utilization",
            "Engine time asked for, over what the ready endpoints have; 1.0 is all",
        )
        ttft = _gauge(
            "pointsman_datalayer_pool_predicted_ttft_seconds", "Of a request that came now"
        )
        idle = _gauge("pointsman_datalayer_pool_idle_seconds", "Without any request")
        to_zero = _gauge(
            "pointsman_datalayer_pool_scale_to_zero", "1 while the pool may go without a replica"
        )
        models = _gauge(
            "pointsman_datalayer_model_scarcity", "1 for the model's regime", "model", "regime"
        )
        surplus = _gauge(
            "pointsman_datalayer_lease_surplus_requests",
            "Leases less the requests that the engines report running and waiting",
        )
        for name, endpoints in pools.items():
            regime, labels = self._digests.regime(name), _labels(name)
            saturation.add_metric(labels, regime.saturation)
            scarcity.add_metric([*labels, scarcity_name(regime.scarcity)], 1)
            stale.add_metric(labels, regime.stale_endpoints)
            idle.add_metric(labels, regime.idle_s)
            to_zero.add_metric(labels, float(regime.scale_to_zero))
            if regime.HasField("utilization"):
                utilization.add_metric(labels, regime.utilization)
            if regime.HasField("predicted_ttft_s"):
                ttft.add_metric(labels, regime.predicted_ttft_s)
            for model in regime.models:
                models.add_metric([*labels, model.model, scarcity_name(model.scarcity)], 1)
            if regime.HasField("recommended_replicas"):
                replicas.add_metric(labels, regime.recommended_replicas)
            reported = sum(
                (endpoint.metrics.running_requests or 0) + (endpoint.metrics.waiting_requests or 0)
                for endpoint in endpoints
            )
            surplus.add_metric(labels, self._in_flight(name) - reported)
        yield from (saturation, scarcity, replicas, stale, surplus)
        yield from (utilization, ttft, idle, to_zero, models)


def _averages(pools: dict[str, list[Endpoint]]) -> Iterator[GaugeMetricFamily]:
    for mean_name, deviation_name, field in _MEANS:
        means = [
            _gauge(f"llm_d_epp_{mean_name}", "Mean over the ready endpoints"),
            _gauge(f"inference_pool_{mean_name}", "As llm_d_epp_*, its older name"),
        ]
        deviation = _gauge(f"llm_d_epp_{deviation_name}", "Deviation over the ready endpoints")
        for name, endpoints in pools.items():
            values = _known(endpoints, field)
            for family in means if values else ():
                family.add_metric(_labels(name), statistics.fmean(values))
            if values:
                deviation.add_metric(_labels(name), statistics.pstdev(values))
        yield from (*means, deviation)
    ready = [
        _gauge("llm_d_epp_ready_endpoints", "Endpoints that may be picked"),
        _gauge("inference_pool_ready_pods", "As llm_d_epp_ready_endpoints, its older name"),
    ]
    for family in ready:
        for name, endpoints in pools.items():
            family.add_metric(_labels(name), len(endpoints))
    yield from ready


def _queue_sizes(pools: dict[str, list[Endpoint]]) -> Iterable[GaugeMetricFamily]:
    families = (
        _gauge("llm_d_epp_per_endpoint_queue_size", "Waiting", "model_server_endpoint"),
        _gauge("inference_pool_per_pod_queue_size", "Its older name", "model_server_pod"),
    )
    for family in families:
        for name, endpoints in pools.items():
            for endpoint in endpoints:
                if endpoint.metrics.waiting_requests is not None:
                    labels = [*_labels(name), endpoint.name]
                    family.add_metric(labels, endpoint.metrics.waiting_requests)
    return families


def _gauge(name: str, documentation: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, labels=["name", "namespace", *more])


def _labels(pool: str) -> list[str]:
    """Upstream's `name` is the bare name; the namespace keeps two pools of one name apart."""
    namespace, _, name = pool.partition("/")
    return [name, namespace]


def _known(endpoints: Sequence[Endpoint], field: str) -> list[float]:
    values: list[float | None] = [getattr(endpoint.metrics, field) for endpoint in endpoints]
    return [value for value in values if value is not None]
