"""Does the default policy keep what is promised of it? A few figures over all traces, with limits.

The policy is run as four replicas of the scheduler that share their state over a bus, against
llm-d-router's default, a greedy oracle with exact state, itself as one replica, and itself with
metrics 5 s old. Ratios are of the mean times to first token, their geometric means over the traces.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from pointsman_replay.core.experiment import Conditions, Progress, Report, run_experiment
from pointsman_replay.core.policies.policy import BuildPolicy
from pointsman_replay.core.report_text import seconds, table
from pointsman_replay.core.trace import Trace
from pointsman_replay.core.virtual_pool import ScrapeTiming

UPSTREAM: Final = "upstream"
ORACLE: Final = "oracle"
SEVERAL: Final = "pointsman x4"
ONE: Final = "pointsman x1"
STALE: Final = "pointsman x4, metrics 5 s old"

PICKERS = 4
BUS_DELAY_S = 0.002
STALE_METRICS_S = 5.0

LOADS = (0.7, 1.0)
TO_UPSTREAM: Mapping[float, tuple[float, float]] = {0.7: (0.46, 0.38), 1.0: (0.86, 0.70)}
"""Limit and aim by load."""
TO_ORACLE = 1.10
TO_ONE = 1.10
TO_FRESH = 1.05
WORST_P99 = 1.15


class Figure(msgspec.Struct, frozen=True):
    what: str
    load: float
    value: float
    limit: float
    aim: float | None = None

    @property
    def holds(self) -> bool:
        return self.value <= self.limit


class Judgement(msgspec.Struct, frozen=True):
    figures: tuple[Figure, ...]
    report: Report

    @property
    def holds(self) -> bool:
        return all(figure.holds for figure in self.figures)


def judge(
    traces: Sequence[Trace],
    policies: Mapping[str, BuildPolicy],
    conditions: Conditions,
    progress: Progress = lambda *_: None,
) -> Judgement:
    """Run and judge. `policies`: those named above but STALE, which is SEVERAL again."""
    report = run_experiment(traces, policies, conditions, progress)
    stale = msgspec.structs.replace(
        conditions, scrapes=ScrapeTiming(conditions.scrapes.period_s, STALE_METRICS_S)
    )
    again = run_experiment(traces, {STALE: policies[SEVERAL]}, stale, progress)
    whole = msgspec.structs.replace(
        report,
        policies=(*report.policies, STALE),
        cells=tuple(sorted((*report.cells, *again.cells), key=lambda one: (one.trace, one.load))),
    )
    return Judgement(tuple(_figures(whole)), whole)


def text_judgement(judgement: Judgement) -> str:
    """The figures, and the times behind them."""
    rows = [
        [
            figure.what,
            f"{figure.load:g}",
            f"{figure.value:.3f}",
            f"{figure.limit:.2f}",
            "" if figure.aim is None else f"{figure.aim:.2f}",
            "holds" if figure.holds else "BROKEN",
        ]
        for figure in judgement.figures
    ]
    return "\n".join(
        [
            _times(judgement.report),
            "",
            table(("policy", "load", "value", "limit", "aim", ""), rows),
            "",
        ]
    )


def _figures(report: Report) -> Iterable[Figure]:
    for load in report.conditions.loads:
        limit, aim = TO_UPSTREAM.get(load, (math.inf, None))
        yield Figure(
            "mean TTFT to llm-d-router's default", load, _ratio(report, load, UPSTREAM), limit, aim
        )
        yield Figure(
            "mean TTFT to the greedy oracle", load, _ratio(report, load, ORACLE), TO_ORACLE
        )
        yield Figure("four replicas to one", load, _ratio(report, load, ONE), TO_ONE)
        fresh = _ratio(report, load, SEVERAL, of=STALE)
        yield Figure("metrics 5 s old to fresh ones", load, fresh, TO_FRESH)
        worst = max(
            _p99(report, trace.name, load, SEVERAL) / _p99(report, trace.name, load, UPSTREAM)
            for trace in report.traces
        )
        yield Figure("worst p99 TTFT of a trace to llm-d-router's", load, worst, WORST_P99)


def _ratio(report: Report, load: float, to: str, *, of: str = SEVERAL) -> float:
    def mean(trace: str, policy: str) -> float:
        return report.cell(trace, load, policy).measures.ttft_s.mean

    ratios = [mean(trace.name, of) / mean(trace.name, to) for trace in report.traces]
    return math.prod(ratios) ** (1 / len(ratios))


def _p99(report: Report, trace: str, load: float, policy: str) -> float:
    return report.cell(trace, load, policy).measures.ttft_s.p99


def _times(report: Report) -> str:
    rows = [
        [
            cell.policy,
            cell.trace,
            f"{cell.load:g}",
            seconds(cell.measures.ttft_s.mean),
            seconds(cell.measures.ttft_s.p99),
            seconds(cell.measures.e2e_s.mean),
            f"{cell.measures.hit_ratio:.3f}",
            f"{cell.measures.in_slo:.3f}",
        ]
        for cell in report.cells
    ]
    titles = ("policy", "trace", "load", "TTFT mean", "p99", "e2e mean", "hits", "in SLO")
    return table(titles, rows)
