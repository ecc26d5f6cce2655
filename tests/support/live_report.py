"""Live runs and what the replay foretold of them, side by side; do they agree?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pointsman_replay.core.measures import Measures
from pointsman_replay.core.report_text import table
from support.live_plan import POINTSMAN, POLICIES, UPSTREAM, LivePlan
from support.live_run import LiveRun

TOLERANCE = 0.25
"""Between the ratios, live to replay."""

BUSY = 0.85
"""Share of the machine from which times are those of a computer short of CPU."""

LATE_S = 0.02
PROBLEMS_SHOWN = 3


@dataclass(frozen=True)
class Comparison:
    """Both by policy; of the replay one for each seed."""

    plan: LivePlan
    foretold: Mapping[str, Sequence[Measures]]
    runs: Mapping[str, LiveRun]

    @property
    def live_ratio(self) -> float:
        """Mean time to first token at the client, upstream's to ours: above 1, ours is shorter."""
        return self.runs[UPSTREAM].ttft_s / self.runs[POINTSMAN].ttft_s

    @property
    def replay_ratios(self) -> list[float]:
        pairs = zip(self.foretold[UPSTREAM], self.foretold[POINTSMAN], strict=True)
        return [upstream.ttft_s.mean / own.ttft_s.mean for upstream, own in pairs]

    @property
    def replay_ratio(self) -> float:
        """Geometric mean over the seeds."""
        return float(np.exp(np.mean(np.log(self.replay_ratios))))

    @property
    def difference(self) -> float:
        """Of the live ratio from the replay's, as a share of the latter."""
        return self.live_ratio / self.replay_ratio - 1.0

    @property
    def agrees(self) -> bool:
        """In direction, and within the tolerance. Without an answer there is nothing to agree."""
        same_direction = (self.live_ratio > 1.0) == (self.replay_ratio > 1.0)
        return same_direction and abs(self.difference) <= TOLERANCE

    @property
    def all_served(self) -> bool:
        return not any(run.problems for run in self.runs.values())


def what_is_played(plan: LivePlan) -> str:
    trace = plan.trace
    prompt_tokens = float(np.mean([request.prompt_tokens for request in trace.requests]))
    return (
        f"{len(trace.requests)} requests of {trace.name}, {prompt_tokens:,.0f} prompt tokens on "
        f"average, in {trace.span_s:g} s:\nload {plan.load:g} of {plan.engines} engines "
        f"{plan.profile.name}, their times multiplied by {plan.time_factor:.2f}; "
        f"{plan.answer_tokens_per_s:,.0f} answer tokens/s; scheduler replicas: {plan.schedulers}\n"
    )


def text_comparison(comparison: Comparison) -> str:
    return "\n".join(
        [
            _times(comparison),
            "",
            _cpu(comparison.runs),
            *(f"warning: {line}" for line in _warnings(comparison.runs)),
            "",
            _verdict(comparison),
            "",
        ]
    )


def _times(comparison: Comparison) -> str:
    runs, foretold = comparison.runs, comparison.foretold

    def live(of: Callable[[LiveRun], float]) -> dict[str, float]:
        return {policy: of(runs[policy]) for policy in POLICIES}

    def replay(of: Callable[[Measures], float]) -> dict[str, float]:
        """Geometric means, so that the ratio of two is the mean of the ratios."""
        return {
            policy: float(np.exp(np.mean(np.log([of(one) for one in foretold[policy]]))))
            for policy in POLICIES
        }

    rows = [
        _row("mean, live at the client", live(lambda run: run.ttft_s)),
        _row("mean, live at the engines", live(lambda run: run.engine_ttft_s)),
        _row("mean, replay", replay(lambda one: one.ttft_s.mean)),
        _row("p50, live at the client", live(lambda run: run.percentile_s(50))),
        _row("p50, replay", replay(lambda one: one.ttft_s.p50)),
        _row("p99, live at the client", live(lambda run: run.percentile_s(99))),
        _row("p99, replay", replay(lambda one: one.ttft_s.p99)),
    ]
    hits = [np.mean([one.hit_ratio for one in foretold[policy]]) for policy in POLICIES]
    counts = [f"{len(runs[one].ttfts_s)} of {len(runs[one].answers)}" for one in POLICIES]
    rows += [
        ["hit ratio, live", *(f"{runs[policy].hit_ratio:.3f}" for policy in POLICIES), ""],
        ["hit ratio, replay", *(f"{ratio:.3f}" for ratio in hits), ""],
        ["served, live", *counts, ""],
    ]
    return table(("time to first token, s", *POLICIES, f"{UPSTREAM}/{POINTSMAN}"), rows)


def _row(what: str, seconds: Mapping[str, float]) -> list[str]:
    ratio = seconds[UPSTREAM] / seconds[POINTSMAN]
    return [what, *(f"{seconds[policy]:.3f}" for policy in POLICIES), f"{ratio:.2f}"]


def _cpu(runs: Mapping[str, LiveRun]) -> str:
    used = [runs[policy].cpu for policy in POLICIES]
    names = dict.fromkeys(name for one in used for name in one.cores)
    machine = ("unknown" if one.machine is None else f"{one.machine:.0%}" for one in used)
    late = (f"{runs[policy].late_p99_s * 1e3:.1f} ms" for policy in POLICIES)
    rows = [
        *([name, *(f"{one.cores.get(name, 0.0):.2f}" for one in used)] for name in names),
        ["all of these", *(f"{sum(one.cores.values()):.2f}" for one in used)],
        ["the machine, with all else on it", *machine],
        ["requests sent late, p99", *late],
    ]
    return table(("CPU, cores kept busy", *POLICIES), rows)


def _warnings(runs: Mapping[str, LiveRun]) -> list[str]:
    found: list[str] = []
    for policy, run in runs.items():
        machine = run.cpu.machine
        if machine is not None and machine > BUSY:
            found.append(
                f"{policy}: the machine was {machine:.0%} busy, and a computer short of CPU takes "
                "time of its own; more --seconds or fewer --answer-tokens ask less of it"
            )
        if run.late_p99_s > LATE_S:
            found.append(f"{policy}: one request in a hundred left {run.late_p99_s:.3f} s late")
        found += [f"{policy}: {problem}" for problem in run.problems[:PROBLEMS_SHOWN]]
    return found


def _verdict(comparison: Comparison) -> str:
    ratios = comparison.replay_ratios
    return (
        f"{UPSTREAM}/{POINTSMAN}: live {comparison.live_ratio:.2f}, replay "
        f"{comparison.replay_ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f} over "
        f"{len(ratios)} seeds). Live differs by {comparison.difference:+.0%}; "
        f"{TOLERANCE:.0%} allowed: {'they agree' if comparison.agrees else 'THEY DO NOT AGREE'}"
        f"{'' if comparison.all_served else '; NOT ALL REQUESTS WERE SERVED'}"
    )
