"""A report as one HTML page that needs nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from pointsman_replay.core.experiment import CDF_POINTS, Cell, Report
from pointsman_replay.core.measures import Measures
from pointsman_replay.core.report_text import text_report
from pointsman_replay.core.svg_plots import WIDTH, Axis, Line, plot, style

_STYLE = f"""
body {{ font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: {2 * WIDTH + 60}px;
  padding: 0 1rem; color: #1b1f24; background: #fff; }}
h1, h2 {{ font-weight: 600; }}
pre {{ overflow-x: auto; font-size: 12px; line-height: 1.4; background: #f5f6f8; padding: 1rem; }}
.plots {{ display: flex; flex-wrap: wrap; gap: 12px; }}
.key span {{ display: inline-block; margin-right: 1.2rem; }}
.key svg {{ vertical-align: middle; margin-right: .3rem; }}
svg {{ max-width: 100%; }}
.title {{ font: 600 13px system-ui, sans-serif; fill: #1b1f24; }}
.tick {{ font: 11px system-ui, sans-serif; fill: #57606a; }}
.grid {{ stroke: #e3e6ea; fill: none; }}
"""


@dataclass(frozen=True)
class _Measured:
    title: str
    axis: Axis
    value: Callable[[Measures], float]


_SECONDS = Axis("seconds", logarithmic=True)

_OVER_LOAD = (
    _Measured("Mean time to first token", _SECONDS, lambda one: one.ttft_s.mean),
    _Measured("p99 of the time to first token", _SECONDS, lambda one: one.ttft_s.p99),
    _Measured("Mean time to the last token", _SECONDS, lambda one: one.e2e_s.mean),
    _Measured("Prefix hits", Axis("share of prompt tokens"), lambda one: one.hit_ratio),
    _Measured("Goodput", Axis("requests in SLO per second"), lambda one: one.goodput_per_s),
    _Measured("Imbalance", Axis("busiest endpoint over the mean"), lambda one: one.imbalance),
)


def html_report(report: Report) -> str:
    """Return the page: tables, then plots of each trace."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>Pointsman replay</title><style>{_STYLE}</style>",
        f"<h1>Pointsman replay</h1><pre>{escape(text_report(report))}</pre>",
        _key(report),
    ]
    for trace in report.traces:
        plots = [
            _over_load(report, trace.name, measured)
            for measured in _OVER_LOAD
            if len(report.conditions.loads) > 1
        ]
        plots += [_cdf(report, trace.name, load) for load in report.conditions.loads]
        parts.append(f'<h2>{escape(trace.name)}</h2><div class="plots">{"".join(plots)}</div>')
    return "\n".join((*parts, "</html>\n"))


def _key(report: Report) -> str:
    entries: list[str] = []
    for index, policy in enumerate(report.policies):
        colour, dash = style(index)
        entries.append(
            f'<span><svg width="28" height="8"><path d="M0 4H28" stroke="{colour}" '
            f'stroke-width="2.5" stroke-dasharray="{dash}"/></svg>{escape(policy)}</span>'
        )
    return f'<p class="key">{"".join(entries)}</p>'


def _over_load(report: Report, trace: str, measured: _Measured) -> str:
    loads = sorted(report.conditions.loads)
    lines = [
        Line(
            policy,
            [(load, measured.value(report.cell(trace, load, policy).measures)) for load in loads],
        )
        for policy in report.policies
    ]
    return plot(measured.title, lines, Axis("load", ticks=loads), measured.axis)


def _cdf(report: Report, trace: str, load: float) -> str:
    lines = [Line(policy, _points(report.cell(trace, load, policy))) for policy in report.policies]
    return plot(
        f"Time to first token at load {load:g}",
        lines,
        _SECONDS,
        Axis("share of requests", ticks=(0.0, 0.25, 0.5, 0.75, 1.0)),
        markers=False,
    )


def _points(cell: Cell) -> list[tuple[float, float]]:
    last = CDF_POINTS - 1
    return [(value, index / last) for index, value in enumerate(cell.ttft_quantiles_s)]
