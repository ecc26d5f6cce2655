"""Reports of shadows over several windows, put together. Pure."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from pointsman_common.contracts.events_pb2 import ShadowReport


class ShadowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the decisions of all windows; imbalance is the mean of the windows', by
    decisions."""

    pool: str
    name: str
    config_hash: str
    windows: int
    seconds: float
    decisions: int
    agreed: int
    refused: int
    skipped: dict[str, int]
    missed: int
    agreement: float
    """0 to 1."""
    predicted_ttft_s: float
    predicted_ttft_production_s: float
    observed_ttft_production_s: float
    """0: none was seen."""
    hit_ratio: float
    hit_ratio_production: float
    imbalance: float
    imbalance_production: float


def summarize(reports: Iterable[ShadowReport]) -> list[ShadowSummary]:
    """By pool, shadow and configuration."""
    groups: dict[tuple[str, str, str], list[ShadowReport]] = {}
    for report in reports:
        groups.setdefault((report.pool, report.name, report.config_hash), []).append(report)
    return [_summary(group) for _, group in sorted(groups.items())]


def _summary(group: list[ShadowReport]) -> ShadowSummary:
    first, skipped = group[0], Counter[str]()
    for report in group:
        skipped.update(dict(report.skipped_by))
    decisions = sum(report.decisions for report in group)
    placed = [report.decisions - report.refused for report in group]

    def mean(values: Iterable[float], weights: list[int]) -> float:
        total = sum(weights)
        weighted = zip(values, weights, strict=True)
        return sum(value * weight for value, weight in weighted) / total if total else 0.0

    agreed = sum(report.agreed for report in group)
    return ShadowSummary(
        pool=first.pool,
        name=first.name,
        config_hash=first.config_hash,
        windows=len(group),
        seconds=round(sum(report.window_s for report in group), 3),
        decisions=decisions,
        agreed=agreed,
        refused=sum(report.refused for report in group),
        skipped=dict(skipped),
        missed=max(report.missed for report in group),
        agreement=agreed / decisions if decisions else 0.0,
        predicted_ttft_s=mean((one.mean_predicted_ttft_s for one in group), placed),
        predicted_ttft_production_s=mean(
            (one.mean_predicted_ttft_production_s for one in group), placed
        ),
        observed_ttft_production_s=mean(
            (one.mean_observed_ttft_s for one in group), [one.observed for one in group]
        ),
        hit_ratio=mean((one.hit_ratio for one in group), placed),
        hit_ratio_production=mean((one.hit_ratio_production for one in group), placed),
        imbalance=mean((one.imbalance for one in group), placed),
        imbalance_production=mean((one.imbalance_production for one in group), placed),
    )


def verdict(summary: ShadowSummary) -> str:
    """One sentence for a person."""
    if not summary.decisions:
        why = max(summary.skipped, key=summary.skipped.__getitem__, default="")
        return f"nothing was decided on{f': {why}' if why else ' yet'}"
    theirs, ours = summary.predicted_ttft_production_s, summary.predicted_ttft_s
    if not theirs or abs(ours / theirs - 1) < 0.005:
        return "its choices would have been worth as much as production's"
    change = ours / theirs - 1
    word = "sooner" if change < 0 else "later"
    return f"first tokens {abs(change):.1%} {word} than production's, as predicted on its state"
