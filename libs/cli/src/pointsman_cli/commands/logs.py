"""`pointsman logs`: what the parts wrote, together or one of them."""

import argparse
import sys
import time
from pathlib import Path

from pointsman_cli.adapters.run_folder import RunFolder, last_lines

_POLL_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", nargs="?", help="such as router or engine-1; all when left out")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written")
    parser.add_argument(
        "-n", "--lines", type=int, default=50, help="of each part's past (%(default)s)"
    )
    parser.add_argument(
        "--run-dir", type=Path, default=Path(".run"), help="of the stack (%(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    folder = RunFolder(options.run_dir)
    logs = {log.stem: log for log in sorted(folder.logs.glob("*.log"))}
    if options.part is not None:
        if options.part not in logs:
            known = ", ".join(logs) or "none"
            print(f"error: no log of {options.part!r}; there are: {known}", file=sys.stderr)
            return 1
        logs = {options.part: logs[options.part]}
    if not logs:
        print(f"no logs in {folder.logs}")
        return 0
    width = max(map(len, logs)) if len(logs) > 1 else 0
    followed = [_Followed(name, path, width) for name, path in logs.items()]
    try:
        for log in followed:
            log.show_past(options.lines)
        while options.follow:
            for log in followed:
                log.show_new()
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        sys.stderr.close()  # a reader such as `head` has gone
    return 0


class _Followed:
    def __init__(self, name: str, path: Path, width: int) -> None:
        self._path = path
        self._prefix = f"{name:<{width}} | " if width else ""
        self._at = 0
        self._rest = b""

    def show_past(self, lines: int) -> None:
        self._at = self._path.stat().st_size
        for line in last_lines(self._path, lines):
            self._print(line)

    def show_new(self) -> None:
        """Whole lines only; a log that has been begun anew is read from its start."""
        try:
            size = self._path.stat().st_size
            if size < self._at:
                self._at, self._rest = 0, b""
            if size == self._at:
                return
            with self._path.open("rb") as log:
                log.seek(self._at)
                text = log.read(size - self._at)
        except FileNotFoundError:
            return
        self._at = size
        *whole, self._rest = (self._rest + text).split(b"\n")
        for line in whole:
            self._print(line.decode(errors="replace"))

    def _print(self, line: str) -> None:
        print(f"{self._prefix}{line}", flush=True)
