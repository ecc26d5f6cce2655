"""Every metric of the flow controller, by upstream's names where upstream has one."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.queue_outcome import QueueExit, QueueOutcome

PREFIX, TWIN_PREFIX = "llm_d_epp_", "inference_extension_"
OTHER = "other"
MOST_NAMES = 1_000
"""Fairness ids and model names come from clients: from here on they are one."""
MOST_SERIES = 4_096
"""Sets of labels of one request; what comes after shares one."""

FLOW_LABELS = ("fairness_id", "priority", "inference_pool", "model_name", "target_model_name")
_WAIT_BUCKETS = (1e-4, 1e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_CYCLE_BUCKETS = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05, 0.1)

LabelValues = tuple[str, str, str, str, str]
_Exit = tuple[str, str, int, str, str, QueueOutcome]


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._queue_size = Gauge(
            f"{PREFIX}flow_control_queue_size",
            "Requests that wait.",
            FLOW_LABELS,
            registry=self.registry,
        )
        self._queue_bytes = Gauge(
            f"{PREFIX}flow_control_queue_bytes",
            "Bytes of their bodies.",
            FLOW_LABELS,
            registry=self.registry,
        )
        self._queue_duration = Histogram(
            f"{PREFIX}flow_control_request_queue_duration_seconds",
            "From coming to leaving.",
            (*FLOW_LABELS, "outcome"),
            buckets=_WAIT_BUCKETS,
            registry=self.registry,
        )
        self._requests = Counter(
            f"{PREFIX}flow_control_requests_total",
            "Requests that have left.",
            ("outcome", "priority", "inference_pool"),
            registry=self.registry,
        )
        self._saturation = Gauge(
            f"{PREFIX}flow_control_pool_saturation",
            "1.0 is full.",
            ("inference_pool", "stage"),
            registry=self.registry,
        )
        self.stale_endpoints = Gauge(
            f"{PREFIX}flow_control_stale_endpoints",
            "Endpoints whose metrics are too old or absent, and that count as full.",
            ("inference_pool",),
            registry=self.registry,
        )
        self.band_requests_ratio = Gauge(
            f"{PREFIX}flow_control_capacity_utilization_requests",
            "Waiting requests over what the band may hold.",
            ("priority", "inference_pool"),
            registry=self.registry,
        )
        self.band_bytes_ratio = Gauge(
            f"{PREFIX}flow_control_capacity_utilization_bytes",
            "Their bytes over what the band may hold.",
            ("priority", "inference_pool"),
            registry=self.registry,
        )
        self.dispatch_cycle = Histogram(
            f"{PREFIX}flow_control_dispatch_cycle_duration_seconds",
            "From being woken to having let all go that fit.",
            buckets=_CYCLE_BUCKETS,
            registry=self.registry,
        )
        self.blind = Gauge(
            "pointsman_flow_controller_blind",
            "1: nobody tells of the pool; requests in flight alone decide.",
            ("inference_pool",),
            registry=self.registry,
        )
        self.replicas = Gauge(
            "pointsman_flow_controller_replicas",
            "Flow controllers that share the pool, as this one hears them, itself included.",
            ("inference_pool",),
            registry=self.registry,
        )
        self.evictions = Counter(
            "pointsman_flow_controller_evictions_total",
            "Requests in flight that were asked to end, to make room for higher priorities.",
            ("inference_pool",),
            registry=self.registry,
        )
        self.refused_configs = Counter(
            "pointsman_flow_controller_refused_configs_total",
            "EndpointPickerConfigs of pools that could not be used; the one before stays in force.",
            ("inference_pool",),
            registry=self.registry,
        )
        self.registry.register(
            _Twins(
                self._queue_size,
                self._queue_bytes,
                self._queue_duration,
                self._saturation,
                self.dispatch_cycle,
            )
        )
        self._names = (_BoundedNames(MOST_NAMES), _BoundedNames(MOST_NAMES))
        self._priorities = _BoundedNames(256)
        self._known: set[LabelValues] = set()
        self._left: dict[_Exit, tuple[Histogram, Counter]] = {}
        """The series of requests that left, by what a request says: no label is looked up twice."""

    def entered(self, pool: str, request: QueuedRequest) -> None:
        """A request begins to wait."""
        labels = self._labels(pool, request)
        self._queue_size.labels(*labels).inc()
        self._queue_bytes.labels(*labels).inc(request.body_bytes)

    def left_queue(self, pool: str, request: QueuedRequest) -> None:
        """A request that was counted by `entered` waits no more."""
        labels = self._labels(pool, request)
        self._queue_size.labels(*labels).dec()
        self._queue_bytes.labels(*labels).dec(request.body_bytes)

    def left(self, pool: str, request: QueuedRequest, way_out: QueueExit) -> None:
        """A request is answered."""
        key = (
            pool,
            request.fairness_id,
            request.priority,
            request.model,
            request.target_model,
            way_out.outcome,
        )
        series = self._left.get(key)
        if series is None:
            series = self._left_series(pool, request, way_out.outcome)
            if len(self._left) >= MOST_SERIES:
                self._left.clear()  # found again, by name
            self._left[key] = series
        duration, counter = series
        duration.observe(way_out.queued_s)
        counter.inc()

    def show_saturation(self, pool: str, by_stage: Mapping[str, float]) -> None:
        for stage, value in by_stage.items():
            self._saturation.labels(pool, stage).set(value)

    def priority(self, priority: int) -> str:
        return self._priorities.fold(str(priority))

    def _left_series(
        self, pool: str, request: QueuedRequest, outcome: QueueOutcome
    ) -> tuple[Histogram, Counter]:
        labels = self._labels(pool, request)
        return (
            self._queue_duration.labels(*labels, outcome.value),
            self._requests.labels(outcome.value, labels[1], pool),
        )

    def _labels(self, pool: str, request: QueuedRequest) -> LabelValues:
        flows, models = self._names
        priority = self.priority(request.priority)
        labels = (
            flows.fold(request.fairness_id),
            priority,
            pool,
            models.fold(request.model),
            models.fold(request.target_model),
        )
        if labels in self._known:
            return labels
        if len(self._known) >= MOST_SERIES:
            return (OTHER, priority, pool, OTHER, OTHER)
        self._known.add(labels)
        return labels


class _BoundedNames:
    """The first names are kept, all others are `other`: a name is always folded alike."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: set[str] = set()

    def fold(self, name: str) -> str:
        if name not in self._names:
            if len(self._names) >= self._most:
                return OTHER
            self._names.add(name)
        return name


class _Twins(Collector):
    """The same series by the names that upstream has deprecated and still shows."""

    def __init__(self, *originals: Gauge | Histogram) -> None:
        self._originals = originals

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for original in self._originals:
            for metric in original.collect():
                twin = Metric(_twin(metric.name), metric.documentation, metric.type)
                twin.samples = [
                    sample._replace(name=_twin(sample.name)) for sample in metric.samples
                ]
                yield twin


def _twin(name: str) -> str:
    return TWIN_PREFIX + name.removeprefix(PREFIX)
