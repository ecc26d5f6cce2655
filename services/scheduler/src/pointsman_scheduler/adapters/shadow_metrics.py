"""What a shadow found, as metrics; `side` is shadow or production."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from pointsman_common.contracts.events_pb2 import ShadowReport

_SIDES = ("shadow", "production")


class ShadowMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._decisions = Counter(
            "pointsman_shadow_decisions",
            "Picks of production that the shadow decided on, by how its choice stands to "
            "production's: agreed, differed or refused.",
            ("pool", "outcome"),
            registry=registry,
        )
        self._skipped = Counter(
            "pointsman_shadow_skipped",
            "Picks of production that the shadow did not decide on.",
            ("pool", "reason"),
            registry=registry,
        )
        self._ttft = Gauge(
            "pointsman_shadow_predicted_ttft_seconds",
            "Mean predicted time to first token, of the last report.",
            ("pool", "side"),
            registry=registry,
        )
        self._hit_ratio = Gauge(
            "pointsman_shadow_hit_ratio",
            "Share of the prompt tokens that the chosen endpoints likely hold, of the last report.",
            ("pool", "side"),
            registry=registry,
        )
        self._imbalance = Gauge(
            "pointsman_shadow_imbalance",
            "The busiest endpoint's prefill tokens over the mean, of the last report.",
            ("pool", "side"),
            registry=registry,
        )
        self._missed = Gauge(
            "pointsman_shadow_missed",
            "Times that messages of the bus were missing since the start.",
            registry=registry,
        )

    def note(self, report: ShadowReport) -> None:
        """Count a report in."""
        pool, placed = report.pool, report.decisions - report.refused
        self._decisions.labels(pool, "agreed").inc(report.agreed)
        self._decisions.labels(pool, "differed").inc(placed - report.agreed)
        self._decisions.labels(pool, "refused").inc(report.refused)
        for reason, count in report.skipped_by.items():
            self._skipped.labels(pool, reason).inc(count)
        self._missed.set(report.missed)
        if not placed:
            return  # the last figures stand
        for gauge, values in (
            (
                self._ttft,
                (report.mean_predicted_ttft_s, report.mean_predicted_ttft_production_s),
            ),
            (self._hit_ratio, (report.hit_ratio, report.hit_ratio_production)),
            (self._imbalance, (report.imbalance, report.imbalance_production)),
        ):
            for side, value in zip(_SIDES, values, strict=True):
                gauge.labels(pool, side).set(value)
