"""A supervisor over a stack of small Python servers."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pointsman_cli.adapters.free_ports import free_ports
from pointsman_cli.adapters.processes import is_running
from pointsman_cli.adapters.run_folder import RunFolder
from pointsman_cli.adapters.supervisor import Supervisor
from pointsman_cli.core.stack_plan import Part, Probe, StackPlan
from pointsman_cli.core.stack_record import PartState, StackRecord, StackState

SERVER = (
    "import http.server, sys;"
    "http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])),"
    " http.server.SimpleHTTPRequestHandler).serve_forever()"
)


def server(name: str, stage: int, port: int) -> Part:
    return part(name, stage, port, SERVER)


def part(name: str, stage: int, port: int, code: str, *, deadline_s: float = 20.0) -> Part:
    return Part(
        name=name,
        stage=stage,
        command=(sys.executable, "-c", code, str(port)),
        address=f"127.0.0.1:{port}",
        probe=Probe(url=f"http://127.0.0.1:{port}/", deadline_s=deadline_s),
    )


def plan(*parts: Part) -> StackPlan:
    return StackPlan(
        parts=parts, files={}, fixed_ports={}, gateway="", console="", answer_probe=None
    )


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.clear_logs()
    return folder


class Watcher:
    """Keeps every record, and acts when the stack is ready."""

    def __init__(self) -> None:
        self.records: list[StackRecord] = []
        self.when_ready: Callable[[], None] = lambda: None

    def __call__(self, record: StackRecord) -> None:
        became_ready = record.state is StackState.READY and (
            not self.records or self.records[-1].state is not StackState.READY
        )
        self.records.append(record)
        if became_ready:
            self.when_ready()

    def order(self, state: PartState) -> list[str]:
        """Names of the parts as they came into a state."""
        seen: list[str] = []
        for record in self.records:
            seen += [
                item.name for item in record.parts if item.state is state and item.name not in seen
            ]
        return seen


def supervise(plan: StackPlan, folder: RunFolder) -> tuple[Supervisor, Watcher]:
    watcher = Watcher()
    supervisor = Supervisor(plan, folder, "", watcher, grace_s=5)
    watcher.when_ready = supervisor.request_stop
    return supervisor, watcher


def nothing_runs(watcher: Watcher) -> bool:
    processes = [item.process for item in watcher.records[-1].parts if item.process]
    return not any(is_running(process) for process in processes)


def test_stages_start_in_order_and_stop_in_reverse(folder: RunFolder) -> None:
    first, second, third = free_ports(3)
    stack = plan(server("a", 1, first), server("b", 2, second), server("c", 3, third))
    supervisor, watcher = supervise(stack, folder)
    assert supervisor.run() == 0
    assert watcher.order(PartState.READY) == ["a", "b", "c"]
    assert watcher.order(PartState.STOPPED) == ["c", "b", "a"]
    assert nothing_runs(watcher)
    assert folder.read_record() is None


def test_a_part_that_ends_while_others_start_stops_all_and_says_why(folder: RunFolder) -> None:
    good, bad = free_ports(2)
    stack = plan(server("good", 1, good), part("bad", 2, bad, "raise SystemExit('no luck')"))
    supervisor, watcher = supervise(stack, folder)
    assert supervisor.run() == 1
    record = folder.read_record()
    assert record is not None
    assert "bad ended by itself (exit code 1)" in record.failure
    assert "no luck" in record.failure
    assert nothing_runs(watcher)


def test_a_part_that_is_never_ready_stops_all_and_is_named(folder: RunFolder) -> None:
    [port] = free_ports(1)
    deaf = "import signal; print('deaf', flush=True); signal.pause()"
    supervisor, watcher = supervise(plan(part("mute", 1, port, deaf, deadline_s=1.0)), folder)
    assert supervisor.run() == 1
    assert "mute was not ready within 1 s" in watcher.records[-1].failure
    assert "deaf" in watcher.records[-1].failure
    assert nothing_runs(watcher)


def test_a_part_that_dies_later_ends_the_stack(folder: RunFolder) -> None:
    steady, mortal = free_ports(2)
    stack = plan(server("steady", 1, steady), server("mortal", 1, mortal))
    supervisor, watcher = supervise(stack, folder)
    watcher.when_ready = lambda: kill(watcher.records[-1], "mortal")
    assert supervisor.run() == 1
    assert "mortal was ended by SIGKILL" in watcher.records[-1].failure
    assert nothing_runs(watcher)


def kill(record: StackRecord, name: str) -> None:
    [process] = [item.process for item in record.parts if item.name == name]
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)


def test_a_second_request_to_stop_does_not_wait(folder: RunFolder) -> None:
    [port] = free_ports(1)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SERVER
    watcher = Watcher()
    patient = Supervisor(plan(part("stubborn", 1, port, stubborn)), folder, "", watcher, grace_s=60)

    def hurry() -> None:
        patient.request_stop()
        patient.request_stop()

    watcher.when_ready = hurry
    assert patient.run() == 0
    assert nothing_runs(watcher)
