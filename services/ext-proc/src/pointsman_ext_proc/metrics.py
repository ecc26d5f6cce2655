"""Every metric of the edge. The names `llm_d_epp_*` are upstream's: dashboards carry over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from pointsman_common.circuit import Circuit
from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_ext_proc.core.eviction import EVICTIONS, Eviction
from pointsman_ext_proc.core.exchange_events import Refused
from pointsman_ext_proc.core.layer_sequence import Hop
from pointsman_ext_proc.core.open_lease import LeaseEnd, OpenLease
from pointsman_ext_proc.core.told_descriptors import ToldDescriptors
from pointsman_ext_proc.histograms import HistogramFamily, HistogramSeries

MAX_NAMES = 1_000
"""Distinct values of a label that clients choose; further ones count as `other`."""

REQUEST_LABELS = ("model_name", "target_model_name", "fairness_id", "priority")

# Upstream's 35 buckets for the whole request, and those that fit a part of it.
_DURATIONS_S = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30,
    45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600,
)  # fmt: skip
_TOKEN_TIMES_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5)
_HOPS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5, 15, 60)
_REQUEST_BYTES = tuple(float(64 << (2 * step)) for step in range(13))
_RESPONSE_BYTES = (1.0, *(float(8 << step) for step in range(14)))
_TOKENS = (1.0, *(float(8 << step) for step in range(18)))


class BoundedNames:
    """Lets the first `MAX_NAMES` values through; every other becomes `other`."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, name: str) -> str:
        if name in self._seen:
            return name
        if len(self._seen) >= MAX_NAMES:
            return "other"
        self._seen.add(name)
        return name


@dataclass(frozen=True, slots=True)
class _RequestSeries:
    """The metrics of one set of labels: looked up once, then used by each request."""

    labels: tuple[str, str, str, str]
    requests: Counter
    running: Gauge
    durations: HistogramSeries
    request_bytes: HistogramSeries
    response_bytes: HistogramSeries
    input: HistogramSeries
    output: HistogramSeries
    cached: HistogramSeries
    ttft_of_streams: HistogramSeries
    ttft_of_others: HistogramSeries
    ntpot: HistogramSeries
    tpot: HistogramSeries


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._series: dict[tuple[str, str, str, int], _RequestSeries] = {}
        self._watched: dict[str, Callable[[], int]] = {}
        self._models, self._targets, self._flows = BoundedNames(), BoundedNames(), BoundedNames()

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        def histogram(
            name: str, text: str, bounds: tuple[float, ...], labels: tuple[str, ...]
        ) -> HistogramFamily:
            return HistogramFamily(name, text, bounds, labels, registry=self.registry)

        of_request, m = REQUEST_LABELS, "llm_d_epp_request"
        self._requests = counter(f"{m}_total", "Requests sent to an endpoint", of_request)
        self._errors = counter(
            f"{m}_error_total",
            "Requests refused, or answered with an error by the model server",
            (*of_request, "error_code"),
        )
        self._running = gauge(f"{m}_running", "Requests sent and not finished", of_request)
        self._durations = histogram(
            f"{m}_duration_seconds", "From arrival to end", _DURATIONS_S, of_request
        )
        self._request_bytes = histogram(
            f"{m}_size_bytes", "Request bodies", _REQUEST_BYTES, of_request
        )
        self._response_bytes = histogram(
            "llm_d_epp_response_size_bytes", "Response bodies", _RESPONSE_BYTES, of_request
        )
        self._input = histogram(
            f"{m}_input_tokens", "Prompt tokens as the engine counted", _TOKENS, of_request
        )
        self._output = histogram(
            f"{m}_output_tokens", "Output tokens as the engine counted", _TOKENS[:12], of_request
        )
        self._cached = histogram(
            f"{m}_cached_tokens", "Prompt tokens found in the cache", _TOKENS, of_request
        )
        self._ttft = histogram(
            f"{m}_ttft_seconds",
            "From arrival to the first chunk of the answer",
            _DURATIONS_S,
            (*of_request, "streaming"),
        )
        self._ntpot = histogram(
            f"{m}_ntpot_seconds", "Duration over output tokens", _TOKEN_TIMES_S, of_request
        )
        self._tpot = histogram(
            f"{m}_streaming_tpot_seconds",
            "Time between output tokens of a stream, the first left out",
            _TOKEN_TIMES_S,
            of_request,
        )
        self._hops = histogram(
            "pointsman_edge_hop_duration_seconds", "One call of a layer", _HOPS_S, ("layer",)
        )
        self._hop_series = {hop: self._hops.labels(hop.value) for hop in Hop}
        self._hop_failures = counter(
            "pointsman_edge_hop_failures_total", "Calls without an answer", ("layer", "outcome")
        )
        self._degraded = counter(
            "pointsman_edge_degraded_total", "Requests that went on without a layer", ("layer",)
        )
        self._unguarded = counter(
            "pointsman_edge_unguarded_total", "Requests admitted without a flow controller"
        )
        self._last_resort = counter(
            "pointsman_edge_last_resort_picks_total", "Picks made without a scheduler"
        )
        self._circuit_open = gauge(
            "pointsman_edge_circuit_open", "1 while a layer is not asked", ("layer",)
        )
        self._open_leases = gauge("pointsman_edge_open_leases", "Leases that this edge owns")
        self.open_streams = gauge("pointsman_edge_open_streams", "ext_proc streams open")
        self._events_dropped = gauge(
            "pointsman_edge_events_dropped", "Events lost since the start: the bus was away"
        )
        self._descriptors = gauge(
            "pointsman_edge_descriptors",
            "Descriptors for shadow schedulers since the start: told, cut (of those), left-out",
            ("outcome",),
        )
        self._lost_leases = counter(
            "pointsman_edge_lost_leases_total", "Leases given up without knowing their end"
        )
        evictions = counter(
            "pointsman_edge_evictions_total",
            "Requests in flight that a flow controller had end: refused before an answer, cut in"
            " the middle of it, or out-of-reach: carried on to their end by the gateway alone",
            ("outcome",),
        )
        self._evictions = {outcome: evictions.labels(outcome) for outcome in EVICTIONS}
        self.stream_failures = counter(
            "pointsman_edge_stream_failures_total", "ext_proc streams ended by an unexpected error"
        )

    def watch(
        self,
        *,
        circuits: Mapping[Hop, Circuit],
        open_leases: Callable[[], int],
        events_dropped: Callable[[], int],
        descriptors: ToldDescriptors,
    ) -> None:
        """Read these whenever the metrics are read."""
        for hop, circuit in circuits.items():
            self._circuit_open.labels(hop.value).set_function(partial(_is_open, circuit))
        self._open_leases.set_function(open_leases)
        self._events_dropped.set_function(events_dropped)
        for outcome, count in (
            ("told", lambda: descriptors.told),
            ("cut", lambda: descriptors.cut),
            ("left-out", lambda: descriptors.left_out),
        ):
            self._descriptors.labels(outcome).set_function(count)
        self._watched = {"open_leases": open_leases, "events_dropped": events_dropped}

    def gauges(self) -> dict[str, float]:
        """For the heartbeat."""
        return {name: float(read()) for name, read in self._watched.items()}

    def lease_opened(self, lease: OpenLease) -> None:
        series = self._series_of(lease.descriptor)
        series.requests.inc()
        series.running.inc()
        series.request_bytes.observe(lease.request_bytes)
        if lease.dispatched.unscheduled:
            self._last_resort.inc()

    def lease_ended(self, lease: OpenLease, end: LeaseEnd, now: float) -> None:
        """`now` is in the lease's monotonic seconds."""
        series = self._series_of(lease.descriptor)
        duration_s = now - lease.arrived_at
        series.running.dec()
        series.durations.observe(duration_s)
        series.response_bytes.observe(end.response_bytes)
        if end.http_status >= 400 and end.cause != "evicted":
            self._errors.labels(*series.labels, "ModelServerError").inc()
        if end.cause == "lost":
            self._lost_leases.inc()
        if lease.first_chunk_at is not None:
            ttft = series.ttft_of_streams if lease.streaming else series.ttft_of_others
            ttft.observe(lease.first_chunk_at - lease.arrived_at)
        usage = end.usage
        if usage is None:
            return
        if usage.prompt_tokens is not None:
            series.input.observe(usage.prompt_tokens)
        if usage.cached_tokens is not None:
            series.cached.observe(usage.cached_tokens)
        if usage.output_tokens:
            series.output.observe(usage.output_tokens)
            series.ntpot.observe(duration_s / usage.output_tokens)
            if lease.streaming and lease.first_chunk_at is not None and usage.output_tokens > 1:
                between_s = (now - lease.first_chunk_at) / (usage.output_tokens - 1)
                series.tpot.observe(between_s)

    def refused(self, refused: Refused) -> None:
        labels = self._labels(refused.descriptor or RequestDescriptor())
        self._errors.labels(*labels, refused.rejection.code or "Unknown").inc()

    def hop(self, hop: Hop, seconds: float, outcome: str) -> None:
        if outcome != "circuit-open":
            self._hop_series[hop].observe(seconds)
        if outcome not in ("ok", "cancelled"):
            self._hop_failures.labels(hop.value, outcome).inc()

    def eviction(self, outcome: Eviction) -> None:
        self._evictions[outcome].inc()

    def degraded(self, hop: Hop) -> None:
        self._degraded.labels(hop.value).inc()
        if hop is Hop.ADMIT:
            self._unguarded.inc()

    def _series_of(self, descriptor: RequestDescriptor) -> "_RequestSeries":
        values = descriptor.model, descriptor.target_model, descriptor.fairness_id
        series = self._series.get((*values, descriptor.priority))
        if series is not None:
            return series
        labels = self._labels(descriptor)
        # By the names that count: a name that became `other` comes here each time.
        key = (*labels[:3], descriptor.priority)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _RequestSeries(
                labels=labels,
                requests=self._requests.labels(*labels),
                running=self._running.labels(*labels),
                durations=self._durations.labels(*labels),
                request_bytes=self._request_bytes.labels(*labels),
                response_bytes=self._response_bytes.labels(*labels),
                input=self._input.labels(*labels),
                output=self._output.labels(*labels),
                cached=self._cached.labels(*labels),
                ttft_of_streams=self._ttft.labels(*labels, "true"),
                ttft_of_others=self._ttft.labels(*labels, "false"),
                ntpot=self._ntpot.labels(*labels),
                tpot=self._tpot.labels(*labels),
            )
        return series

    def _labels(self, descriptor: RequestDescriptor) -> tuple[str, str, str, str]:
        return (
            self._models(descriptor.model),
            self._targets(descriptor.target_model),
            self._flows(descriptor.fairness_id),
            str(descriptor.priority),
        )


def _is_open(circuit: Circuit) -> float:
    return float(circuit.is_open)
