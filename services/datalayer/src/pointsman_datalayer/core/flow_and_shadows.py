"""Queues and shadows of a pool as plain data: for the REST API and the console."""

import math
from collections.abc import Iterable
from typing import Any

from pointsman_common.contracts.events_pb2 import ShadowReport
from pointsman_common.contracts.flow_pb2 import BandStat, FlowStats
from pointsman_datalayer.core.layer_roster import ShadowHeard

Json = dict[str, Any]


def flow_summary(told: Iterable[FlowStats]) -> Json:
    """The priority bands of all flow-controller replicas together, the highest first.

    Waits are those of the replica where they are longest: percentiles cannot be added up.
    """
    replicas = list(told)
    bands: dict[int, Json] = {}
    for stats in replicas:
        for band in stats.bands:
            _add(bands.setdefault(band.priority, _empty(band.priority)), band)
    return {
        "replicas": [
            {
                "replica": stats.envelope.publisher,
                "saturation": _finite(stats.saturation),
                "in_flight": stats.in_flight,
                "share": _finite(stats.share),
                "queued": sum(band.queued for band in stats.bands or stats.flows),
            }
            for stats in replicas
        ],
        "bands": [bands[priority] for priority in sorted(bands, reverse=True)],
    }


def shadow_summary(heard: ShadowHeard, now: float) -> Json:
    """The last report of a shadow, and how often it agreed in those before, oldest first."""
    last = heard.reports[-1]
    return {
        "name": last.name,
        "replica": last.envelope.publisher,
        "age_s": round(max(0.0, now - heard.at), 1),
        "window_s": last.window_s,
        "decisions": last.decisions,
        "agreed": last.agreed,
        "agreement": _agreement(last),
        "refused": last.refused,
        "skipped": last.skipped,
        "skipped_by": dict(last.skipped_by),
        "mean_predicted_ttft_s": _finite(last.mean_predicted_ttft_s),
        "mean_predicted_ttft_production_s": _finite(last.mean_predicted_ttft_production_s),
        "mean_observed_ttft_s": _finite(last.mean_observed_ttft_s) if last.observed else None,
        "hit_ratio": _finite(last.hit_ratio),
        "hit_ratio_production": _finite(last.hit_ratio_production),
        "imbalance": _finite(last.imbalance),
        "imbalance_production": _finite(last.imbalance_production),
        "config_hash": last.config_hash,
        "missed": last.missed,
        "agreement_over_time": [
            {"at": report.envelope.sent_at, "agreement": _agreement(report)}
            for report in heard.reports
        ],
    }


def _agreement(report: ShadowReport) -> float | None:
    return round(report.agreed / report.decisions, 4) if report.decisions else None


def _empty(priority: int) -> Json:
    return {
        "priority": priority,
        "queued": 0,
        "queued_bytes": 0,
        "max_queued": 0,
        "dispatched": 0,
        "left": {},
        "wait_p50_s": 0.0,
        "wait_p99_s": 0.0,
    }


def _add(total: Json, band: BandStat) -> None:
    total["queued"] += band.queued
    total["queued_bytes"] += band.queued_bytes
    total["max_queued"] += band.max_queued
    total["dispatched"] += band.dispatched
    for outcome, count in band.left.items():
        total["left"][outcome] = total["left"].get(outcome, 0) + count
    for name, wait_s in (("wait_p50_s", band.wait_p50_s), ("wait_p99_s", band.wait_p99_s)):
        total[name] = max(total[name], _finite(wait_s) or 0.0)


def _finite(value: float) -> float | None:
    """Rounded; JSON knows neither NaN nor infinity."""
    return round(value, 4) if math.isfinite(value) else None
