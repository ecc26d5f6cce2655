"""Every policy at every load of every trace, and what came out."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random

import msgspec
import numpy as np

from pointsman_replay.core.measures import Measures, ServiceLevel, measure, ttfts
from pointsman_replay.core.policies.policy import BuildPolicy
from pointsman_replay.core.replay_run import ReplayRun, RunResult, full_load_span_s
from pointsman_replay.core.trace import ReplayError, Trace, fitting, scaled_to_span, spread
from pointsman_replay.core.virtual_pool import ScrapeTiming
from pointsman_simulator.core.engine_profile import EngineProfile

CDF_POINTS = 101

Progress = Callable[[str, float], None]
"""Told what is under way and how much of it is done, 0 to 1."""


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """The same for every run of an experiment."""

    engine: EngineProfile
    replicas: int = 8
    loads: tuple[float, ...] = (0.7, 1.0)
    """1.0 is what round-robin drains: see `full_load_span_s`."""
    seed: int = 1
    scrapes: ScrapeTiming = ScrapeTiming()
    level: ServiceLevel = ServiceLevel()
    pickers: int = 1
    """For the report; the policies are built with them."""
    bus_delay_s: float = 0.0
    bus_loss: float = 0.0


class TraceSummary(msgspec.Struct, frozen=True):
    name: str
    requests: int
    mean_prompt_tokens: float
    mean_output_tokens: float
    block_tokens: int
    full_load_per_s: float
    """Requests per second at load 1.0."""
    notes: tuple[str, ...]


class Cell(msgspec.Struct, frozen=True):
    """One run."""

    trace: str
    load: float
    policy: str
    measures: Measures
    ttft_quantiles_s: tuple[float, ...]
    """Times to first token at the quantiles 0, 0.01 … 1."""


class Report(msgspec.Struct, frozen=True):
    conditions: Conditions
    policies: tuple[str, ...]
    traces: tuple[TraceSummary, ...]
    cells: tuple[Cell, ...]

    def cell(self, trace: str, load: float, policy: str) -> Cell:
        return next(
            one for one in self.cells if (one.trace, one.load, one.policy) == (trace, load, policy)
        )

    @property
    def baseline(self) -> str:
        """The policy that others are compared with."""
        return "upstream" if "upstream" in self.policies else self.policies[0]


def run_experiment(
    traces: Sequence[Trace],
    policies: Mapping[str, BuildPolicy],
    conditions: Conditions,
    progress: Progress = lambda *_: None,
) -> Report:
    """Run all; the same arguments give the same report.

    Raises:
        ReplayError: a trace cannot be replayed on these engines, or two have one name.
    """
    names = [trace.name for trace in traces]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ReplayError(f"two traces are called {twice!r}; rename a file")
    summaries: list[TraceSummary] = []
    cells: list[Cell] = []
    seed = conditions.seed
    for raw in traces:
        trace = spread(raw, Random(f"{seed}/spread/{raw.name}"))
        trace = fitting(trace, conditions.engine.kv_tokens)
        progress(f"{trace.name} capacity", 0.0)
        full_s = full_load_span_s(trace, conditions.engine, conditions.replicas)
        progress(f"{trace.name} capacity", 1.0)
        summaries.append(_summary(trace, full_s))
        for load in conditions.loads:
            arrivals = scaled_to_span(trace, full_s / load)
            for policy, build in policies.items():
                what = f"{trace.name} at {load:g} with {policy}"
                run = ReplayRun(
                    arrivals,
                    conditions.engine,
                    conditions.replicas,
                    build,
                    seed=f"{seed}/{trace.name}/{policy}",
                    scrapes=conditions.scrapes,
                )
                result = run.run(partial(progress, what))
                cells.append(_cell(trace.name, load, policy, result, conditions.level))
    return Report(conditions, tuple(policies), tuple(summaries), tuple(cells))


def _cell(trace: str, load: float, policy: str, result: RunResult, level: ServiceLevel) -> Cell:
    values = ttfts(result)
    quantiles: list[float] = []
    if len(values):
        quantiles = np.quantile(values, np.linspace(0.0, 1.0, CDF_POINTS)).tolist()
    return Cell(trace, load, policy, measure(result, level), tuple(quantiles))


def _summary(trace: Trace, full_s: float) -> TraceSummary:
    count = len(trace.requests)
    return TraceSummary(
        name=trace.name,
        requests=count,
        mean_prompt_tokens=sum(one.prompt_tokens for one in trace.requests) / count,
        mean_output_tokens=sum(one.output_tokens for one in trace.requests) / count,
        block_tokens=trace.block_tokens,
        full_load_per_s=count / full_s,
        notes=trace.notes,
    )
