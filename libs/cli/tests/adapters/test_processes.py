"""Processes are started, told apart and ended, shown with small Python children."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman_cli.adapters.processes import (
    Child,
    birth_of,
    end_all,
    identity_of_self,
    is_running,
    wait_gone,
)
from pointsman_cli.core.stack_record import ProcessIdentity

POLITE = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {POLITE}"
PARENT = (
    "import subprocess, sys;"
    "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
    "print(child.pid, flush=True)"
)


@pytest.fixture
def started(tmp_path: Path) -> Iterator["Starter"]:
    starter = Starter(tmp_path)
    yield starter
    for child in starter.children:
        child.stop(until=0)


class Starter:
    def __init__(self, folder: Path) -> None:
        self.children: list[Child] = []
        self.log = folder / "child.log"

    def __call__(self, code: str) -> Child:
        child = Child([sys.executable, "-c", code], self.log)
        self.children.append(child)
        return child

    def first_line(self) -> str:
        return wait_for_line(self.log)


def wait_for_line(path: Path) -> str:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        text = path.read_text() if path.exists() else ""
        if "\n" in text:
            return text.splitlines()[0]
        os.sched_yield()
    raise AssertionError(f"no line in {path}")


def test_a_child_that_is_asked_ends_by_the_signal(started: Starter) -> None:
    child = started(POLITE)
    started.first_line()
    child.ask_to_end()
    child.stop(until=time.monotonic() + 10)
    assert child.exit_code() == -signal.SIGTERM


def test_a_child_that_does_not_listen_is_killed_when_its_time_is_up(started: Starter) -> None:
    child = started(STUBBORN)
    started.first_line()
    child.ask_to_end()
    child.stop(until=time.monotonic() + 0.1)
    assert child.exit_code() == -signal.SIGKILL
    assert not is_running(child.identity)


def test_what_a_child_has_started_ends_with_it(started: Starter) -> None:
    child = started(PARENT)
    grandchild = int(started.first_line())
    identity = ProcessIdentity(grandchild, birth_of(grandchild) or "")
    assert is_running(identity)
    child.stop(until=time.monotonic() + 10)
    assert child.exit_code() == 0
    assert wait_gone(identity, timeout_s=10)


def test_an_exit_code_is_told_without_losing_the_pid(started: Starter) -> None:
    child = started("raise SystemExit(7)")
    while (code := child.exit_code()) is None:
        os.sched_yield()
    assert (code, child.exit_code()) == (7, 7)


def test_a_program_that_does_not_exist_ends_with_its_name_in_the_log(tmp_path: Path) -> None:
    child = Child(["/no/such/program"], tmp_path / "log")
    while child.exit_code() is None:
        os.sched_yield()
    child.stop(until=0)
    assert "/no/such/program: No such file" in (tmp_path / "log").read_text()


def test_the_output_of_a_child_is_in_its_log(started: Starter) -> None:
    child = started("import sys; print('out'); print('err', file=sys.stderr)")
    child.stop(until=time.monotonic() + 10)
    assert sorted(started.log.read_text().split()) == ["err", "out"]


def test_a_strangers_process_is_not_taken_for_ours() -> None:
    ourselves = identity_of_self()
    assert is_running(ourselves)
    assert not is_running(ProcessIdentity(ourselves.pid, "another/birth"))
    assert not is_running(ProcessIdentity(ourselves.pid, ""))


def test_a_strangers_process_is_never_signalled() -> None:
    end_all([ProcessIdentity(os.getpid(), "another/birth")], grace_s=0)
    assert is_running(identity_of_self())


def test_orphans_are_ended_by_their_identity(started: Starter) -> None:
    polite, stubborn = (
        started(POLITE),
        Child([sys.executable, "-c", STUBBORN], started.log.with_name("other.log")),
    )
    started.children.append(stubborn)
    started.first_line()
    wait_for_line(started.log.with_name("other.log"))
    end_all([polite.identity, stubborn.identity], grace_s=0.1)
    assert (polite.exit_code(), stubborn.exit_code()) == (-signal.SIGTERM, -signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's death")
def test_children_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    code = (
        "import signal, sys; from pathlib import Path;"
        "from pointsman_cli.adapters.processes import Child;"
        f"child = Child([sys.executable, '-c', {POLITE!r}], Path({str(log)!r}));"
        "print(child.identity.pid, child.identity.birth, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        pid, birth = starter.stdout.readline().decode().split()
        wait_for_line(log)
        starter.kill()
    assert wait_gone(ProcessIdentity(int(pid), birth), timeout_s=10)
