"""Starts the parts of a plan, watches them, and stops them all: the last started first."""

import os
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import msgspec

from pointsman_cli.adapters.processes import Child, identity_of_self
from pointsman_cli.adapters.readiness_probe import problem_at
from pointsman_cli.adapters.run_folder import RunFolder, last_lines
from pointsman_cli.core.stack_plan import Part, Probe, StackPlan
from pointsman_cli.core.stack_record import PartRecord, PartState, StackRecord, StackState

POLL_S = 0.05
STOP_GRACE_S = 10.0
"""Longer than the services' own drain."""

ANSWER_S = 5.0
"""For one answer of a model server."""

TAIL_LINES = 20

Show = Callable[[StackRecord], None]


class PartFailedError(Exception):
    """A part ended, or did not become ready; the message is for people."""


class Supervisor:
    """Owns the child processes of one stack.

    Every change of state is written to the run folder's record, then shown.
    """

    def __init__(
        self,
        plan: StackPlan,
        folder: RunFolder,
        sockets: str,
        show: Show,
        *,
        grace_s: float = STOP_GRACE_S,
    ) -> None:
        self._plan, self._folder, self._show, self._grace_s = plan, folder, show, grace_s
        self._children: dict[str, Child] = {}
        # A count, not an Event: a signal handler must not take a lock that its own thread may hold.
        self._stops_asked = 0
        self._record = StackRecord(
            supervisor=identity_of_self(),
            state=StackState.STARTING,
            gateway=plan.gateway,
            console=plan.console,
            sockets=sockets,
            parts=tuple(
                PartRecord(
                    name=part.name,
                    address=part.address,
                    probe_url=part.probe.url,
                    log=str(folder.log_path(part.name)),
                )
                for part in plan.parts
            ),
        )

    def run(self) -> int:
        """Run until told to stop (0) or until a part fails (1)."""
        with self._signals():
            try:
                self._tell()
                self._start()
                self._watch()
            except PartFailedError as error:
                self._tell(state=StackState.FAILED, failure=str(error))
            else:
                self._tell(state=StackState.STOPPING)
            finally:
                self._stop_all()
        failed = self._record.state is StackState.FAILED
        if not failed:
            self._folder.remove_record()
        return 1 if failed else 0

    def request_stop(self) -> None:
        """Stop in order; asked again, kill what still runs."""
        self._stops_asked += 1

    def _start(self) -> None:
        for _, stage in groupby(self._plan.parts, key=lambda part: part.stage):
            parts = list(stage)
            for part in parts:
                self._start_part(part)
            self._await_ready(parts)
            if self._stops_asked:
                return
        if self._plan.answer_probe is not None:
            self._await_answer(self._plan.answer_probe)
        if not self._stops_asked:
            self._tell(state=StackState.READY)

    def _start_part(self, part: Part) -> None:
        child = Child(part.command, self._folder.log_path(part.name), {"PYTHONUNBUFFERED": "1"})
        self._children[part.name] = child
        self._tell_part(
            part.name,
            state=PartState.STARTING,
            process=child.identity,
            started_at=time.time(),
        )

    def _await_ready(self, parts: Sequence[Part]) -> None:
        began = time.monotonic()
        left = list(parts)
        while left and not self._stops_asked:
            self._check_children()
            waited = time.monotonic() - began
            for part in list(left):
                problem = problem_at(part.probe.url)
                if not problem:
                    left.remove(part)
                    self._tell_part(part.name, state=PartState.READY, ready_after_s=waited)
                elif waited > part.probe.deadline_s:
                    why = f"{part.name} was not ready within {part.probe.deadline_s:g} s"
                    raise self._failed(part.name, f"{why} ({part.probe.url}: {problem})")
            if left:
                time.sleep(POLL_S)

    def _await_answer(self, probe: Probe) -> None:
        until = time.monotonic() + probe.deadline_s
        while (problem := problem_at(probe.url, timeout_s=ANSWER_S)) and not self._stops_asked:
            self._check_children()
            if time.monotonic() > until:
                why = f"the gateway gave no answer within {probe.deadline_s:g} s"
                raise self._failed("ext-proc", f"{why} ({probe.url}: {problem})")
            time.sleep(POLL_S)

    def _watch(self) -> None:
        while not self._stops_asked:
            self._check_children()
            time.sleep(POLL_S)

    def _check_children(self) -> None:
        for name, child in self._children.items():
            code = child.exit_code()
            if code is not None:
                raise self._failed(name, f"{name} {_how_ended(code)}")

    def _failed(self, name: str, why: str) -> PartFailedError:
        self._tell_part(name, state=PartState.FAILED)
        log = self._folder.log_path(name)
        tail = last_lines(log, TAIL_LINES)
        shown = "".join(f"\n  {line}" for line in tail) or "\n  (nothing)"
        return PartFailedError(f"{why}; the end of {_short(log)}:{shown}")

    def _stop_all(self) -> None:
        """Stage by stage, so that nobody loses a peer that it still calls."""
        started = [part for part in self._plan.parts if part.name in self._children]
        for _, stage in groupby(reversed(started), key=lambda part: part.stage):
            parts = list(stage)
            for part in parts:
                self._children[part.name].ask_to_end()
            until = time.monotonic() + self._grace_s
            for part in parts:
                self._stop_one(self._children[part.name], until)
                if self._state_of(part.name) is not PartState.FAILED:
                    self._tell_part(part.name, state=PartState.STOPPED)

    def _stop_one(self, child: Child, until: float) -> None:
        while child.exit_code() is None and time.monotonic() < until and self._stops_asked < 2:
            time.sleep(POLL_S)
        child.stop(until=time.monotonic())

    def _state_of(self, name: str) -> PartState:
        return next(part.state for part in self._record.parts if part.name == name)

    def _tell_part(self, name: str, **changes: object) -> None:
        self._record = self._record.with_part(name, **changes)
        self._tell()

    def _tell(self, **changes: object) -> None:
        self._record = msgspec.structs.replace(self._record, **changes)
        self._folder.write_record(self._record)
        self._show(self._record)

    @contextmanager
    def _signals(self) -> Generator[None, None, None]:
        def stop(_: int, __: object) -> None:
            self.request_stop()

        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, stop) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _how_ended(code: int) -> str:
    if code >= 0:
        return f"ended by itself (exit code {code})"
    return f"was ended by {signal.Signals(-code).name}"


def _short(path: Path) -> str:
    """Relative to the working directory where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
