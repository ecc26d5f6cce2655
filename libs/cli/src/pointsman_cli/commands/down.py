"""`pointsman down`: stops the stack of a run folder, and what is left of a killed one."""

import argparse
import sys
from pathlib import Path

from pointsman_cli.adapters.processes import ask_to_end, end_all, is_running, wait_gone
from pointsman_cli.adapters.run_folder import RunFolder
from pointsman_cli.commands.up import end_remains

_STOP_S = 60.0
"""Longer than the supervisor takes when each stage needs its whole grace."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run-dir", type=Path, default=Path(".run"), help="of the stack (%(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    folder = RunFolder(options.run_dir)
    record = folder.read_record()
    if record is None:
        print(f"nothing runs in {options.run_dir}")
        return 0
    ask_to_end(record.supervisor)
    if not wait_gone(record.supervisor, timeout_s=_STOP_S):
        print("the supervisor does not end: killing it and its parts", file=sys.stderr)
        end_all([record.supervisor], grace_s=0)
    with folder.held():
        end_remains(folder)
    left = [part.name for part in record.parts if part.process and is_running(part.process)]
    if left:
        print(f"error: still running: {', '.join(left)}", file=sys.stderr)
        return 1
    print("stopped")
    return 0
