"""`pointsman shadow report`: what shadow schedulers would have done, against production."""

import argparse
import asyncio
import sys
from pathlib import Path

import msgspec
from rich.markup import escape
from rich.table import Table

from pointsman_cli.adapters.datalayer_rest import AskError
from pointsman_cli.adapters.run_folder import RunFolder
from pointsman_cli.adapters.shadow_listener import hear_reports
from pointsman_cli.adapters.terminal import open_console
from pointsman_cli.core.shadow_summary import ShadowSummary, summarize, verdict
from pointsman_common.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    deeds = parser.add_subparsers(dest="deed", metavar="DEED", required=True)
    what = "listen to the reports for a while, and put them together"
    report = deeds.add_parser("report", help=what, description=f"{what[0].upper()}{what[1:]}.")
    report.epilog = "Exit code 1 when no shadow was heard. See docs/shadow.md."
    add = report.add_argument
    add("--for", dest="seconds", type=float, default=12.0, metavar="SECONDS", help="(%(default)s)")
    add("--pool", default="", metavar="NAMESPACE/NAME", help="(every pool)")
    add("--bus-url", default="", help="nats://host:port (the stack's that runs here)")
    add("--run-dir", type=Path, default=Path(".run"), help="of the stack (%(default)s)")
    add("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    try:
        url = options.bus_url or _bus_of(options.run_dir)
        reports = asyncio.run(hear_reports(url, pool=options.pool, seconds=options.seconds))
    except (AskError, SettingsError) as error:
        print(f"pointsman shadow: {error}", file=sys.stderr)
        return 1
    summaries = summarize(reports)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(summaries), indent=2).decode())
    elif summaries:
        _print(summaries)
    else:
        print(f"no shadow was heard within {options.seconds:g} s")
    return 0 if summaries else 1


def _bus_of(run_dir: Path) -> str:
    record = RunFolder(run_dir).read_record()
    part = next((one for one in record.parts if one.name == "nats"), None) if record else None
    if part is None:
        raise AskError(f"nothing runs in {run_dir}; --bus-url names a bus elsewhere")
    return f"nats://{part.address}"


def _print(summaries: list[ShadowSummary]) -> None:
    console = open_console()
    for one in summaries:
        console.print(
            f"[bold]{escape(one.name)}[/] beside {escape(one.pool)}: {one.decisions} decisions in "
            f"{one.seconds:.1f} s by configuration {escape(one.config_hash)}, "
            f"{one.agreement:.1%} as production's"
        )
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("", "shadow", "production"):
            table.add_column(title, justify="left" if not title else "right")
        for title, ours, theirs, form in (
            ("predicted TTFT, mean", one.predicted_ttft_s, one.predicted_ttft_production_s, "s"),
            ("hit ratio", one.hit_ratio, one.hit_ratio_production, "%"),
            ("imbalance", one.imbalance, one.imbalance_production, ""),
        ):
            table.add_row(title, _figure(ours, form), _figure(theirs, form))
        if one.observed_ttft_production_s:
            table.add_row("observed TTFT, mean", "", _figure(one.observed_ttft_production_s, "s"))
        console.print(table)
        for count, what in (
            (one.refused, "refused by the shadow"),
            (one.missed, "gaps in what it heard, since its start"),
            *((count, f"skipped: {why}") for why, count in sorted(one.skipped.items())),
        ):
            if count:
                console.print(f"{count} {escape(what)}")
        console.print(escape(verdict(one)))


def _figure(value: float, form: str) -> str:
    if form == "%":
        return f"{value:.1%}"
    return f"{value * 1e3:.1f} ms" if form == "s" else f"{value:.2f}"
