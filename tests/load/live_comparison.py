"""Does the replay tell the truth? `make live`, or
`PYTHONPATH=tests python tests/load/live_comparison.py [TRACE]`.

The same cut of a trace is played twice in real time, through Envoy and all layers on simulated
engines: once placed by llm-d-router's default, once by ours; and in the replay. The ratio of the
mean times to first token should be the same. Exit code 1: it is not, or a request was not served;
2: the run cannot be made.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from support.live_plan import POLICIES, LivePlan, cut, plan_live, replayed
from support.live_report import Comparison, text_comparison, what_is_played
from support.live_run import LiveRun, LiveStage

from pointsman_replay.adapters.trace_files import read_trace_file
from pointsman_replay.core.generated_trace import generate_trace
from pointsman_replay.core.trace import ReplayError
from pointsman_simulator.core.engine_profile import PROFILES

SEEDS = (1, 2, 3, 4, 5)
"""Of the replay: near-ties fall otherwise in each run."""

LONGEST_S = 150.0
"""Of one live run's arrivals, so that the whole stays in minutes."""


def main() -> int:
    options = _arguments()
    try:
        plan = _plan(options)
    except ReplayError as error:
        sys.stderr.write(f"live comparison: {error}\n")
        return 2
    _say(what_is_played(plan))
    foretold = replayed(plan, SEEDS)
    runs: dict[str, LiveRun] = {}
    with tempfile.TemporaryDirectory() as folder, LiveStage(plan, Path(folder) / "live") as stage:
        for policy in POLICIES:
            _say(f"playing with {policy} …\n")
            runs[policy] = stage.play(policy)
    comparison = Comparison(plan, foretold, runs)
    _say(f"\n{text_comparison(comparison)}")
    return 0 if comparison.agrees and comparison.all_served else 1


def _plan(options: argparse.Namespace) -> LivePlan:
    trace = (
        read_trace_file(options.trace)
        if options.trace
        else generate_trace(options.requests, seed=1)
    )
    return plan_live(
        cut(trace, options.requests, options.answer_tokens),
        engines=options.engines,
        load=options.load,
        seconds=options.seconds,
        profile=options.engine,
        schedulers=options.schedulers,
    )


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare live runs with their replay.")
    add = parser.add_argument
    add("trace", nargs="?", type=Path, metavar="TRACE", help="without: conversations are generated")
    add("--requests", type=int, default=400, metavar="N", help="in whole conversations (400)")
    add("--answer-tokens", type=int, default=128, metavar="N", help="longest answer (128)")
    add("--engines", type=int, default=4, metavar="N", help="(4)")
    add("--engine", choices=sorted(PROFILES), default="8b-h100", help="profile (8b-h100)")
    add("--schedulers", type=int, default=1, metavar="N", help="replicas (1)")
    add("--load", type=float, default=0.9, metavar="X", help="of what round-robin drains (0.9)")
    add("--seconds", type=float, default=80.0, metavar="S", help="of arrivals, each policy (80)")
    options = parser.parse_args()
    for name, least, most in (
        *(("requests", 2, 20_000), ("answer_tokens", 1, 4_096), ("engines", 1, 32)),
        *(("schedulers", 1, 8), ("load", 0.05, 3.0), ("seconds", 1.0, LONGEST_S)),
    ):
        if not least <= getattr(options, name) <= most:
            parser.error(f"--{name.replace('_', '-')} is from {least:g} to {most:g}")
    return options


if __name__ == "__main__":
    sys.exit(main())
