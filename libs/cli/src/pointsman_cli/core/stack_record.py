"""What is known of a running stack: written by its supervisor, read by every other verb.

starting ──▶ ready ──▶ stopping ──▶ (record removed)
    └──────────┴──▶ failed
"""

from enum import StrEnum

import msgspec


class StackState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


class PartState(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    """Ended by itself, or did not become ready."""
    STOPPED = "stopped"


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A pid alone may be a stranger's by the time that it is read."""

    pid: int
    birth: str
    """When the process began, as the system tells it."""


class PartRecord(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    address: str
    probe_url: str
    log: str
    state: PartState = PartState.WAITING
    process: ProcessIdentity | None = None
    started_at: float | None = None
    """Seconds since the epoch."""
    ready_after_s: float | None = None


class StackRecord(msgspec.Struct, frozen=True, kw_only=True):
    supervisor: ProcessIdentity
    state: StackState
    gateway: str
    console: str
    sockets: str
    """Folder of the Unix sockets; one outside the run folder goes when the stack does."""
    parts: tuple[PartRecord, ...]
    failure: str = ""
    """For people, with the last lines of the part's log."""

    def with_part(self, name: str, **changes: object) -> "StackRecord":
        parts = tuple(
            msgspec.structs.replace(part, **changes) if part.name == name else part
            for part in self.parts
        )
        return msgspec.structs.replace(self, parts=parts)


def encode_record(record: StackRecord) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=2)


def decode_record(text: bytes) -> StackRecord | None:
    """`None` for what is no record of this version."""
    try:
        return msgspec.json.decode(text, type=StackRecord)
    except msgspec.MsgspecError:
        return None
