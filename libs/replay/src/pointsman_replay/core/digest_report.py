"""What the datalayer made of a trace: load, regime and recommended replicas over virtual time."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import msgspec
import numpy as np

from pointsman_replay.core.measures import Spread
from pointsman_replay.core.report_text import seconds, table
from pointsman_replay.core.svg_plots import Axis, Line, plot, style

LOAD_S = 30.0
FLAP_WINDOW_S = 300.0
MOST_CHANGES = 1
"""Changes of direction that the recommendation may make in that time."""

REGIMES = ("unknown", "idle", "abundant", "tight", "scarce", "saturated")
ROWS = 30


class DigestPoint(msgspec.Struct, frozen=True, kw_only=True):
    at_s: float
    requests_per_s: float
    """Arrived since the point before."""
    work: float
    """Engines that what arrived since then keeps busy, by the profile: the true load."""
    ready: int
    recommended: int | None
    regime: str
    reason: str
    utilization: float | None
    saturation: float
    predicted_ttft_s: float | None


class DigestRun(msgspec.Struct, frozen=True, kw_only=True):
    trace: str
    notes: tuple[str, ...]
    engine: str
    requests: int
    most_replicas: int
    follows: bool
    """Whether the pool had the replicas that were recommended."""
    target_utilization: float
    points: tuple[DigestPoint, ...]
    ttft_s: Spread

    @property
    def recommendations(self) -> list[tuple[float, int]]:
        return [(one.at_s, one.recommended) for one in self.points if one.recommended is not None]

    def correlation(self, window_s: float) -> float:
        """Of the recommendation with the true load, or its peak in that time, -1 to 1.

        The load is the mean of 30 s.
        """
        told = self.recommendations
        loads = [(one.at_s, self.load_at(one.at_s, LOAD_S)) for one in self.points]
        load = [
            max(value for then, value in loads if at_s - window_s <= then <= at_s)
            for at_s, _ in told
        ]
        replicas = [count for _, count in told]
        if len(set(replicas)) < 2 or len(set(load)) < 2:
            return 0.0
        return float(np.corrcoef(load, replicas)[0, 1])

    @property
    def most_changes(self) -> int:
        """Changes of direction in the worst FLAP_WINDOW_S."""
        return most_in_window(direction_changes(self.recommendations), FLAP_WINDOW_S)

    @property
    def replica_hours(self) -> float:
        steps = pairwise(self.points)
        return sum(one.ready * (after.at_s - one.at_s) for one, after in steps) / 3600

    def load_at(self, at_s: float, window_s: float) -> float:
        found = [one.work for one in self.points if at_s - window_s < one.at_s <= at_s]
        return sum(found) / len(found) if found else 0.0


def direction_changes(told: Sequence[tuple[float, int]]) -> list[float]:
    """Times at which a rise came after a fall, or a fall after a rise."""
    changes: list[float] = []
    direction = 0
    for (_, before), (at_s, after) in pairwise(told):
        if after == before:
            continue
        now = 1 if after > before else -1
        if direction and now != direction:
            changes.append(at_s)
        direction = now
    return changes


def most_in_window(times: Sequence[float], window_s: float) -> int:
    """The most of them that lie within one window."""
    return max((sum(start <= at < start + window_s for at in times) for start in times), default=0)


def text_digest(run: DigestRun) -> str:
    """A table over time, and what it comes to."""
    every = max(1, len(run.points) // ROWS)
    rows = [
        [
            f"{one.at_s:.0f}",
            f"{one.requests_per_s:.1f}",
            f"{run.load_at(one.at_s, LOAD_S):.1f}",
            _known(one.utilization, "{:.2f}"),
            f"{one.saturation:.2f}",
            _known(one.predicted_ttft_s, "{:.2f}"),
            one.regime,
            str(one.ready),
            _known(one.recommended, "{}"),
        ]
        for one in run.points[every - 1 :: every]
    ]
    titles = (
        "t",
        "req/s",
        "work",
        "util",
        "sat",
        "TTFT pred",
        "policy",
        "ready",
        "asked",
    )
    shown = table(titles, rows).replace("policy", "regime", 1)
    changes = direction_changes(run.recommendations)
    ttft = run.ttft_s
    pool = "follows the recommendation" if run.follows else "has all of them throughout"
    return (
        f"{run.trace}: {run.requests} requests on at most {run.most_replicas} of {run.engine}; "
        f"the pool {pool}{''.join(f'; {note}' for note in run.notes)}. Times in seconds; work in "
        f"engines kept busy.\n\n{shown}\n\n"
        f"direction changes of the recommendation: {len(changes)} in all, at most "
        f"{run.most_changes} in {FLAP_WINDOW_S:g} s (limit {MOST_CHANGES})\n"
        f"correlation of the recommendation with the load {run.correlation(0.0):.2f}, "
        f"with its peak of the last {FLAP_WINDOW_S:g} s {run.correlation(FLAP_WINDOW_S):.2f}\n"
        f"TTFT mean {seconds(ttft.mean)}, p50 {seconds(ttft.p50)}, p99 {seconds(ttft.p99)}; "
        f"{run.replica_hours:.2f} replica hours\n"
    )


def html_digest(run: DigestRun) -> str:
    """One page that needs nothing else: two plots over time, and the table."""
    load = [(one.at_s, run.load_at(one.at_s, LOAD_S)) for one in run.points]
    replicas = [
        Line("work, engines kept busy", load),
        Line(
            f"work over the target of {run.target_utilization:.0%}",
            [(at_s, work / run.target_utilization) for at_s, work in load],
        ),
        Line("recommended replicas", _steps([(at, float(n)) for at, n in run.recommendations])),
        Line("ready replicas", _steps([(one.at_s, float(one.ready)) for one in run.points])),
    ]
    regime = [
        Line("regime", _steps([(one.at_s, float(REGIMES.index(one.regime))) for one in run.points]))
    ]
    time = Axis("seconds")
    names = ", ".join(f"{place} {name}" for place, name in enumerate(REGIMES))
    plots = (
        plot("Load and recommended replicas", replicas, time, Axis("engines"), markers=False),
        plot("Regime", regime, time, Axis(names, ticks=range(len(REGIMES))), markers=False),
    )
    keys = "".join(
        f'<span style="color:{style(index)[0]}">{escape(line.name)}</span> '
        for index, line in enumerate(replicas)
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        "<title>Pointsman replay: regime and replicas</title><style>"
        "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:980px;padding:0 1rem;"
        "color:#1b1f24;background:#fff}pre{overflow-x:auto;font-size:12px;background:#f5f6f8;"
        "padding:1rem}.plots svg{width:100%;height:auto;max-width:940px}"
        ".title{font:600 13px system-ui,sans-serif}.tick{font:9px system-ui,sans-serif;"
        "fill:#57606a}.grid{stroke:#e3e6ea;fill:none}.key span{margin-right:1.2rem;"
        "font-weight:600}</style>"
        f"<h1>Regime and replicas: {escape(run.trace)}</h1>"
        f'<p class="key">{keys}</p><div class="plots">{"".join(plots)}</div>'
        f"<pre>{escape(text_digest(run))}</pre></html>\n"
    )


def _steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The line of a value that holds until the next one."""
    line: list[tuple[float, float]] = []
    for at_s, value in points:
        if line:
            line.append((at_s, line[-1][1]))
        line.append((at_s, value))
    return line


def _known(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
