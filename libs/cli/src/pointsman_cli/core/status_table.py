"""A running stack as rows for people and as data for programs."""

from typing import Any

import msgspec

from pointsman_cli.core.stack_record import PartRecord, StackRecord


class PartStatus(msgspec.Struct, frozen=True, kw_only=True):
    part: str
    pid: int | None
    state: str
    """`running`, `gone` when its process has ended unseen, or what the record says."""
    address: str
    ready: bool
    uptime_s: float | None
    log: str


def part_status(part: PartRecord, *, running: bool, ready: bool, now: float) -> PartStatus:
    """`now` in seconds since the epoch."""
    recorded = part.process is not None and part.state in ("starting", "ready")
    return PartStatus(
        part=part.name,
        pid=part.process.pid if part.process else None,
        state="running" if running else "gone" if recorded else str(part.state),
        address=part.address,
        ready=running and ready,
        uptime_s=round(now - part.started_at, 1) if running and part.started_at else None,
        log=part.log,
    )


def status_document(
    record: StackRecord, parts: list[PartStatus], *, supervised: bool
) -> dict[str, Any]:
    """What `pointsman status --json` prints."""
    return {
        "state": str(record.state) if supervised or record.failure else "gone",
        "gateway": record.gateway,
        "console": record.console,
        "supervisor_pid": record.supervisor.pid if supervised else None,
        "failure": record.failure,
        "parts": msgspec.to_builtins(parts),
    }


def duration(seconds: float | None) -> str:
    """`42s`, `3m 20s`, `2h 5m`, `4d 1h`."""
    if seconds is None:
        return ""
    whole = int(seconds)
    for unit, size, below, lower in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // lower}{below}"
    return f"{whole}s"
