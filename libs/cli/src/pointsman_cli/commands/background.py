"""The waiting half of `pointsman up --detach`: watches a supervisor in the background."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from pointsman_cli.adapters.progress import Progress
from pointsman_cli.adapters.run_folder import RunFolder, last_lines
from pointsman_cli.core.stack_record import StackState

_START_S = 240.0
"""For the whole stack; each part has a deadline of its own within."""

_STOP_S = 40.0
_POLL_S = 0.1
_TAIL_LINES = 20


def start_in_background(folder: RunFolder, arguments: Sequence[str], announcement: str) -> int:
    """Start a supervisor that outlives this process; returns the exit code when it is ready."""
    folder.logs.mkdir(parents=True, exist_ok=True)
    log = folder.log_path("supervisor")
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "pointsman_cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        ready = _await_ready(folder, supervisor)
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait(_STOP_S)
        return 130
    if ready:
        print(announcement, flush=True)
        return 0
    record = folder.read_record()
    if record is not None and record.supervisor.pid == supervisor.pid and record.failure:
        print(f"error: {record.failure}", file=sys.stderr)
    else:
        tail = "\n  ".join(last_lines(log, _TAIL_LINES))
        print(f"error: the supervisor ended; the end of {log}:\n  {tail}", file=sys.stderr)
    return 1


def _await_ready(folder: RunFolder, supervisor: "subprocess.Popen[bytes]") -> bool:
    until = time.monotonic() + _START_S
    with Progress() as progress:
        while supervisor.poll() is None:
            record = folder.read_record()
            if record is not None and record.supervisor.pid == supervisor.pid:
                progress(record)
                if record.state is StackState.READY:
                    return True
            if time.monotonic() > until:
                supervisor.terminate()
                supervisor.wait(_STOP_S)
            time.sleep(_POLL_S)
        record = folder.read_record()
        if record is not None and record.supervisor.pid == supervisor.pid:
            progress(record)
    return False
