"""CPU that processes and the whole machine used between two readings, from Linux's /proc."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class CpuUse:
    cores: Mapping[str, float] = field(default_factory=dict)
    """Cores kept busy, by the processes' name; those of one name together. Empty: not known."""
    machine: float | None = None
    """Share of all cores that was busy, whoever used it; `None`: not known."""


class CpuMeter:
    """Begins to count when it is made. `names` by process id."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._began_at, self._before = time.monotonic(), self._ticks()
        self._machine_before = _machine_ticks()

    def read(self) -> CpuUse:
        """What was used so far; a process that has ended since counts as idle."""
        wall_ticks = (time.monotonic() - self._began_at) * os.sysconf("SC_CLK_TCK")
        cores: dict[str, float] = {}
        for pid, ticks in self._ticks().items():
            name = self._names[pid]
            used = (ticks - self._before.get(pid, ticks)) / wall_ticks
            cores[name] = cores.get(name, 0.0) + used
        machine = _machine_ticks()
        if machine is None or self._machine_before is None:
            return CpuUse(cores)
        busy, total = (now - then for now, then in zip(machine, self._machine_before, strict=True))
        return CpuUse(cores, busy / max(1, total))

    def _ticks(self) -> dict[int, int]:
        found = {pid: _process_ticks(pid) for pid in self._names}
        return {pid: ticks for pid, ticks in found.items() if ticks is not None}


def _process_ticks(pid: int) -> int | None:
    """User and system time; see proc(5): the name may hold blanks, so count behind it."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12])


def _machine_ticks() -> tuple[int, int] | None:
    """Busy and all."""
    try:
        first = (PROC / "stat").read_text().partition("\n")[0]
    except OSError:
        return None
    # Up to `steal`: the guests' time is in `user` as well.
    values = [int(value) for value in first.split()[1:9]]
    idle = values[3] + values[4]
    return sum(values) - idle, sum(values)
