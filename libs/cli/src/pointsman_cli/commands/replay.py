"""`pointsman replay`: which policy places the requests of a trace best?"""

import argparse
import math
import sys
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pointsman_cli.adapters.datalayer_rest import AskError
from pointsman_cli.commands.explain import add_source_arguments, find
from pointsman_cli.core.replayed_receipt import receipt_json, receipt_text
from pointsman_replay.adapters.digest_replay import DigestConditions, replay_digest
from pointsman_replay.adapters.policy_catalogue import (
    DEFAULTS,
    NAMES,
    choose_policies,
    judged_policies,
)
from pointsman_replay.adapters.production_pickers import PickerOptions
from pointsman_replay.adapters.receipt_replay import replay_receipt
from pointsman_replay.adapters.trace_files import read_trace_file
from pointsman_replay.adapters.virtual_bus import BusTiming
from pointsman_replay.core.digest_report import MOST_CHANGES, html_digest, text_digest
from pointsman_replay.core.experiment import Conditions, Report, run_experiment
from pointsman_replay.core.generated_trace import generate_trace
from pointsman_replay.core.judgement import judge, text_judgement
from pointsman_replay.core.measures import ServiceLevel
from pointsman_replay.core.report_html import html_report
from pointsman_replay.core.report_json import json_report
from pointsman_replay.core.report_text import text_report
from pointsman_replay.core.trace import ReplayError, Trace
from pointsman_replay.core.virtual_pool import ScrapeTiming
from pointsman_simulator.core.engine_profile import PROFILES

GENERATED_REQUESTS = 2000
BROKEN = 1
"""Exit code when the default policy does not keep one of its limits."""
DIFFERS = 3
"""Exit code when a decision comes out otherwise than its receipt says."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.epilog = (
        f"Policies: {', '.join(NAMES)}, and name=FILE for an EndpointPickerConfig. "
        "Without a trace, conversations are generated. See docs/replay.md. With --receipt, one "
        "decision is made again: exit code 0 when it comes out the same, 3 when not."
    )
    add = parser.add_argument
    add("traces", nargs="*", type=Path, metavar="TRACE", help="our JSONL, Mooncake's, Azure's CSV")
    add("--policy", action="append", metavar="NAME", help=f"repeatable ({', '.join(DEFAULTS)})")
    add("--replicas", type=_count, default=8, metavar="N", help="engines (%(default)s)")
    add("--load", type=_loads, default=(0.7, 1.0), metavar="X,Y", help="of round-robin's (0.7,1.0)")
    add("--engine", choices=sorted(PROFILES), default="8b-h100", help="(%(default)s)")
    add("--requests", type=_count, metavar="N", help="of each trace, from its start")
    add("--seed", type=int, default=1, help="of all dice (%(default)s)")
    add("--pickers", type=_count, default=1, metavar="N", help="scheduler replicas (%(default)s)")
    add("--bus-loss", type=_share, default=0.0, metavar="P", help="of messages, 0 to 1 (0)")
    add("--report", type=Path, metavar="FILE", help="write a page with plots")
    add("--json", action="store_true", help="for programs, in place of the tables")
    add("--judge", action="store_true", help="hold the default policy against its limits")
    add("--digest", action="store_true", help="regime and recommended replicas over the trace")
    add("--fixed-pool", action="store_true", help="with --digest: all replicas throughout")
    add("--receipt", metavar="ID", help="make this decision again (id, request id, or file)")
    add("--config", type=Path, metavar="FILE", help="with --receipt: by another configuration")
    for name, kind, default, what in (
        ("--bus-delay-ms", _milliseconds, 2.0, "from publish to receipt"),
        ("--scrape-ms", _period, 50.0, "between scrapes"),
        ("--metrics-delay-ms", _milliseconds, 0.0, "from scrape to picker"),
        ("--slo-ttft-ms", _period, 2000.0, "to the first token"),
        ("--slo-tpot-ms", _period, 50.0, "for each token after it"),
    ):
        add(name, type=kind, default=default, metavar="MS", help=f"{what} (%(default)s)")


def run(options: argparse.Namespace) -> int:
    try:
        if options.receipt:
            return _replay_receipt(options)
        if options.config:
            raise ReplayError("--config goes with --receipt; for a trace, --policy NAME=FILE")
        if options.judge:
            return _judge(options)
        if options.fixed_pool and not options.digest:
            raise ReplayError("--fixed-pool goes with --digest")
        if options.digest:
            return _digest(options)
        report = _replay(options)
        if options.report:
            _write(options.report, html_report(report))
    except (ReplayError, AskError) as error:
        print(f"pointsman replay: {error}", file=sys.stderr)
        return 2
    print(json_report(report) if options.json else text_report(report), end="")
    return 0


def _replay_receipt(options: argparse.Namespace) -> int:
    told = find(options.receipt, options)
    config = None if options.config is None else _read(options.config)
    replayed = replay_receipt(told.receipt, config)
    print(receipt_json(replayed) if options.json else receipt_text(replayed), end="")
    return 0 if not replayed.differences or not replayed.same_config else DIFFERS


def _judge(options: argparse.Namespace) -> int:
    conditions = Conditions(
        engine=PROFILES[options.engine],
        replicas=options.replicas,
        loads=options.load,
        seed=options.seed,
        scrapes=ScrapeTiming(options.scrape_ms / 1e3, 0.0),
        level=ServiceLevel(options.slo_ttft_ms / 1e3, options.slo_tpot_ms / 1e3),
    )
    with _ProgressLines() as progress:
        judgement = judge(_traces(options), judged_policies(), conditions, progress)
    if options.report:
        _write(options.report, html_report(judgement.report))
    print(text_judgement(judgement), end="")
    return 0 if judgement.holds else BROKEN


def _digest(options: argparse.Namespace) -> int:
    """The datalayer's view of each trace; `--load` is the mean share of the replicas in use."""
    if options.report and len(options.traces) > 1:
        raise ReplayError("--report with --digest is a page of one trace")
    if options.report and not options.report.absolute().parent.is_dir():
        raise ReplayError(f"{options.report} cannot be written: its folder is not there")
    conditions = DigestConditions(
        engine=PROFILES[options.engine],
        most_replicas=options.replicas,
        load=options.load[0],
        follow=not options.fixed_pool,
        seed=options.seed,
        level=ServiceLevel(options.slo_ttft_ms / 1e3, options.slo_tpot_ms / 1e3),
    )
    with _ProgressLines() as progress:
        runs = [
            replay_digest(trace, conditions, partial(progress, trace.name))
            for trace in _traces(options)
        ]
    if options.report:
        _write(options.report, "".join(map(html_digest, runs)))
    print("\n".join(map(text_digest, runs)), end="")
    return 0 if all(run.most_changes <= MOST_CHANGES for run in runs) else BROKEN


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReplayError(f"{path} cannot be read: {error}") from error


def _replay(options: argparse.Namespace) -> Report:
    bus = BusTiming(options.bus_delay_ms / 1e3, options.bus_loss)
    policies = choose_policies(
        options.policy or list(DEFAULTS), PickerOptions(options.pickers, bus)
    )
    if options.report and not options.report.absolute().parent.is_dir():
        raise ReplayError(f"{options.report} cannot be written: its folder is not there")
    conditions = Conditions(
        engine=PROFILES[options.engine],
        replicas=options.replicas,
        loads=options.load,
        seed=options.seed,
        scrapes=ScrapeTiming(options.scrape_ms / 1e3, options.metrics_delay_ms / 1e3),
        level=ServiceLevel(options.slo_ttft_ms / 1e3, options.slo_tpot_ms / 1e3),
        pickers=options.pickers,
        bus_delay_s=bus.delay_s,
        bus_loss=bus.loss,
    )
    with _ProgressLines() as progress:
        return run_experiment(_traces(options), policies, conditions, progress)


def _traces(options: argparse.Namespace) -> list[Trace]:
    if not options.traces:
        return [generate_trace(options.requests or GENERATED_REQUESTS, options.seed)]
    return [read_trace_file(path, most=options.requests) for path in options.traces]


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ReplayError(f"{path} cannot be written: {error.strerror}") from error


class _ProgressLines:
    """On stderr: a bar for the run under way on a terminal, else a line for each that is done."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0)
        self._what = ""

    def __enter__(self) -> "_ProgressLines":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, what: str, done: float) -> None:
        if what != self._what:
            self._what = what
            self._bar.reset(self._task, description=what)
        self._bar.update(self._task, completed=done)
        if done >= 1.0 and not self._console.is_terminal:
            self._console.print(f"{what}: done", markup=False)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1,000,000")
    return int(text)


def _loads(text: str) -> tuple[float, ...]:
    loads = tuple(_number(part, above=0.0, most=100.0) for part in text.split(","))
    if len(set(loads)) != len(loads):
        raise argparse.ArgumentTypeError(f"{text!r} names a load twice")
    return loads


def _share(text: str) -> float:
    return _number(text, least=0.0, most=1.0)


def _milliseconds(text: str) -> float:
    return _number(text, least=0.0)


def _period(text: str) -> float:
    return _number(text, above=0.0)


def _number(
    text: str, *, least: float = -math.inf, above: float = -math.inf, most: float = 1e9
) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (least <= value <= most and value > above):
        bounds = f"above {above:g}" if math.isinf(least) else f"from {least:g}"
        raise argparse.ArgumentTypeError(f"{text!r} is no number {bounds} up to {most:g}")
    return value
