"""Shows how a stack starts and stops: a live table on a terminal, else a line for each change."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from pointsman_cli.core.stack_record import PartRecord, PartState, StackRecord, StackState

_MARKS = {
    PartState.WAITING: "[dim]·[/]",
    PartState.READY: "[green]✓[/]",
    PartState.FAILED: "[red]✗[/]",
    PartState.STOPPED: "[dim]■[/]",
}


class Progress:
    """Call it with each record of the stack."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._live: Live | None = None
        self._told: dict[str, PartState] = {}
        self._spinner = Spinner("dots")

    def __call__(self, record: StackRecord) -> None:
        if record.state is StackState.FAILED and not any(
            part.state is PartState.FAILED for part in record.parts
        ):
            return
        if self._console.is_terminal:
            self._draw(record)
        else:
            self._say(record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the table as it stands; what follows is printed below it."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self, record: StackRecord) -> None:
        if self._live is None:
            if record.state in (StackState.READY, StackState.FAILED):
                return
            self._live = Live(console=self._console, refresh_per_second=10)
            self._live.start()
        self._live.update(self._table(record))
        if record.state is StackState.READY:
            self.close()

    def _table(self, record: StackRecord) -> Table:
        table = Table.grid(padding=(0, 2))
        for part in record.parts:
            mark = _MARKS.get(part.state, self._spinner)
            table.add_row(mark, part.name, f"[dim]{part.address}[/]", f"[dim]{_took(part)}[/]")
        return table

    def _say(self, record: StackRecord) -> None:
        for part in record.parts:
            if part.state is not self._told.get(part.name, PartState.WAITING):
                self._told[part.name] = part.state
                if part.state is not PartState.STARTING:
                    line = f"{part.name:<16} {part.state:<8} {part.address:<22} {_took(part)}"
                    self._console.print(line.rstrip(), markup=False, soft_wrap=True)


def _took(part: PartRecord) -> str:
    if part.state is PartState.READY and part.ready_after_s is not None:
        return f"{part.ready_after_s:.1f} s"
    if part.state is PartState.STARTING and part.started_at is not None:
        return f"{time.time() - part.started_at:.0f} s"
    return ""
