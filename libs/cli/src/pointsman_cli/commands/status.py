"""`pointsman status`: which parts run, and which are ready at this moment."""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pointsman_cli.adapters.processes import is_running
from pointsman_cli.adapters.readiness_probe import is_ready
from pointsman_cli.adapters.run_folder import RunFolder
from pointsman_cli.core.stack_record import PartRecord
from pointsman_cli.core.status_table import PartStatus, duration, part_status, status_document


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit code 0 when every part is ready, 1 when one is not, 3 when nothing runs."
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--run-dir", type=Path, default=Path(".run"), help="of the stack (%(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    record = RunFolder(options.run_dir).read_record()
    if record is None:
        if options.json:
            print(json.dumps({"state": "stopped", "parts": []}))
        else:
            print(f"nothing runs in {options.run_dir}")
        return 3
    with ThreadPoolExecutor(max_workers=16) as pool:
        parts = list(pool.map(_status_of, record.parts))
    supervised = is_running(record.supervisor)
    if options.json:
        print(json.dumps(status_document(record, parts, supervised=supervised), indent=2))
    else:
        _show(parts)
        if record.failure:
            print(f"failed: {record.failure}")
        elif not supervised:
            print("the supervisor has gone: `pointsman down` ends what it left")
    return 0 if supervised and all(part.ready for part in parts) else 1


def _status_of(part: PartRecord) -> PartStatus:
    running = part.process is not None and is_running(part.process)
    ready = running and is_ready(part.probe_url)
    return part_status(part, running=running, ready=ready, now=time.time())


def _show(parts: list[PartStatus]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("part", "pid", "state", "address", "ready", "uptime"):
        table.add_column(title, justify="right" if title in ("pid", "uptime") else "left")
    for part in parts:
        table.add_row(
            part.part,
            str(part.pid or ""),
            part.state,
            part.address,
            "[green]yes[/]" if part.ready else "[red]no[/]",
            duration(part.uptime_s),
        )
    Console(highlight=False).print(table)
