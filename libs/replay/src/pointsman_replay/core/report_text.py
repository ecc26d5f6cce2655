"""A report as tables of plain text."""

import math
from collections.abc import Sequence

from pointsman_replay.core.experiment import Cell, Report

COLUMNS = (
    "load",
    "policy",
    "TTFT mean",
    "p50",
    "p99",
    "e2e mean",
    "TPOT p50",
    "hits",
    "in SLO",
    "good/s",
    "imbalance",
    "preempted",
)


def text_report(report: Report) -> str:
    """Return the tables, one a trace, and what they say together."""
    conditions = report.conditions
    level = conditions.level
    parts = [
        f"{conditions.replicas} engines of {conditions.engine.name}, seed {conditions.seed}; "
        f"pickers {conditions.pickers}, bus {conditions.bus_delay_s * 1e3:g} ms, "
        f"loss {conditions.bus_loss:g}; scrapes each {conditions.scrapes.period_s * 1e3:g} ms; "
        f"SLO: TTFT {level.ttft_s:g} s, TPOT {level.tpot_s * 1e3:g} ms. Times in seconds."
    ]
    for trace in report.traces:
        notes = "".join(f"; {note}" for note in trace.notes)
        title = (
            f"{trace.name}: {trace.requests} requests, "
            f"{trace.mean_prompt_tokens:.0f}/{trace.mean_output_tokens:.0f} tokens in/out, "
            f"load 1.0 = {trace.full_load_per_s:.2f}/s{notes}"
        )
        rows = [
            _row(report.cell(trace.name, load, policy), report)
            for load in conditions.loads
            for policy in report.policies
        ]
        parts.append(title + "\n" + table((*COLUMNS, f"to {report.baseline}"), rows))
    if len(report.traces) > 1:
        parts.append(_together(report))
    if refused := sum(one.measures.refused for one in report.cells):
        parts.append(f"{refused} requests were refused; they count as out of SLO.")
    return "\n\n".join(parts) + "\n"


def ratio_to_baseline(cell: Cell, report: Report) -> float:
    """Mean TTFT over the baseline's at the same trace and load; infinite where that is 0."""
    base = report.cell(cell.trace, cell.load, report.baseline).measures.ttft_s.mean
    return cell.measures.ttft_s.mean / base if base else math.inf


def geometric_mean_ratio(report: Report, load: float, policy: str) -> float:
    """Over the traces, of the ratios to the baseline."""
    ratios = [
        ratio_to_baseline(report.cell(trace.name, load, policy), report) for trace in report.traces
    ]
    return math.prod(ratios) ** (1 / len(ratios))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out in columns: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines: list[str] = []
    for row in (titles, *rows):
        cells = [
            text.ljust(width) if title == "policy" else text.rjust(width)
            for title, text, width in zip(titles, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def seconds(value: float) -> str:
    """Three figures or so."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if value >= 10 else f"{value:.3f}"


def _row(cell: Cell, report: Report) -> list[str]:
    measures = cell.measures
    return [
        f"{cell.load:g}",
        cell.policy,
        seconds(measures.ttft_s.mean),
        seconds(measures.ttft_s.p50),
        seconds(measures.ttft_s.p99),
        seconds(measures.e2e_s.mean),
        f"{measures.tpot_s.p50:.4f}",
        f"{measures.hit_ratio:.3f}",
        f"{measures.in_slo:.3f}",
        f"{measures.goodput_per_s:.2f}",
        f"{measures.imbalance:.2f}",
        str(measures.preemptions),
        f"{ratio_to_baseline(cell, report):.2f}",
    ]


def _together(report: Report) -> str:
    loads = report.conditions.loads
    rows = [
        [policy, *(f"{geometric_mean_ratio(report, load, policy):.3f}" for load in loads)]
        for policy in report.policies
    ]
    title = f"Mean TTFT to {report.baseline}'s, geometric mean over the traces"
    return title + "\n" + table(("policy", *(f"load {load:g}" for load in loads)), rows)
