"""Child processes, and processes known only by what a record says of them.

Each child leads a session of its own, so that a Ctrl-C at the terminal reaches only its starter
and a signal to its group reaches whatever it has started.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pointsman_cli.adapters import tether
from pointsman_cli.core.stack_record import ProcessIdentity

_POLL_S = 0.02


class Child:
    """A process that this one has started; its output goes to a file."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it. `command` begins with a path.

        Raises:
            OSError: the log cannot be written.
        """
        tethered = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *command]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                tethered,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self.identity = ProcessIdentity(self._process.pid, birth_of(self._process.pid) or "")

    def exit_code(self) -> int | None:
        """`None` while it runs; minus the signal's number if one ended it.

        It is not reaped yet: its pid stays its own until `stop`.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        ended = os.waitid(os.P_PID, self._process.pid, flags)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def ask_to_end(self) -> None:
        if self.exit_code() is None:
            os.kill(self._process.pid, signal.SIGTERM)

    def stop(self, *, until: float) -> None:
        """Wait for it until the monotonic time `until`, then kill it with all of its group."""
        while self.exit_code() is None and time.monotonic() < until:
            time.sleep(_POLL_S)
        if self._process.returncode is None:
            # Also when it has ended: what it started may live on. Until reaped, its pid is its own.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def birth_of(pid: int) -> str | None:
    """When the process began, as the system tells it; `None` if it is gone or only a zombie."""
    if sys.platform != "linux":
        shown = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
        state, _, birth = shown.stdout.strip().partition(" ")
        return birth.strip() if birth and not state.startswith("Z") else None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    # After the name, which may hold blanks and brackets: field 3 is the state, 22 the start.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def is_running(process: ProcessIdentity) -> bool:
    """Whether this very process runs, and not a stranger that got its pid."""
    return bool(process.birth) and birth_of(process.pid) == process.birth


def identity_of_self() -> ProcessIdentity:
    return ProcessIdentity(os.getpid(), birth_of(os.getpid()) or "")


def ask_to_end(process: ProcessIdentity) -> None:
    if is_running(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)


def wait_gone(process: ProcessIdentity, *, timeout_s: float) -> bool:
    """Whether it has ended by then."""
    until = time.monotonic() + timeout_s
    while is_running(process):
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_S)
    return True


def end_all(processes: Iterable[ProcessIdentity], *, grace_s: float) -> None:
    """End processes that are nobody's children any more: ask them, wait, then kill their groups."""
    left = [process for process in processes if is_running(process)]
    for process in left:
        ask_to_end(process)
    until = time.monotonic() + grace_s
    for process in left:
        if not wait_gone(process, timeout_s=max(0.0, until - time.monotonic())):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            wait_gone(process, timeout_s=5)
