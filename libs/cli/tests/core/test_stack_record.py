"""What a stack writes of itself, and how it is shown."""

import json
import shlex

import pytest

from pointsman_cli.core.announcement import announcement, curl_line
from pointsman_cli.core.stack_record import (
    PartRecord,
    PartState,
    ProcessIdentity,
    StackRecord,
    StackState,
    decode_record,
    encode_record,
)
from pointsman_cli.core.status_table import duration, part_status, status_document

PART = PartRecord(
    name="router",
    address="127.0.0.1:1",
    probe_url="http://127.0.0.1:1/readyz",
    log="/x/router.log",
    state=PartState.READY,
    process=ProcessIdentity(42, "boot/1"),
    started_at=1000.0,
)
RECORD = StackRecord(
    supervisor=ProcessIdentity(41, "boot/0"),
    state=StackState.READY,
    gateway="http://127.0.0.1:8080",
    console="http://127.0.0.1:8081",
    sockets="/x/sockets",
    parts=(PART,),
)


def test_a_record_survives_being_written() -> None:
    assert decode_record(encode_record(RECORD)) == RECORD


@pytest.mark.parametrize("text", [b"", b"{", b"{}", b"[1]"])
def test_what_is_no_record_is_no_stack(text: bytes) -> None:
    assert decode_record(text) is None


def test_a_change_of_one_part_leaves_the_others() -> None:
    two = StackRecord(
        supervisor=RECORD.supervisor,
        state=RECORD.state,
        gateway="",
        console="",
        sockets="",
        parts=(PART, PartRecord(name="nats", address="", probe_url="", log="")),
    )
    changed = two.with_part("nats", state=PartState.READY)
    assert [part.state for part in changed.parts] == [PartState.READY, PartState.READY]
    assert changed.parts[0] == PART


def test_a_part_whose_process_has_gone_unseen_is_neither_ready_nor_up() -> None:
    status = part_status(PART, running=False, ready=True, now=1060.0)
    assert (status.state, status.ready, status.uptime_s) == ("gone", False, None)


def test_a_running_part_tells_its_uptime() -> None:
    status = part_status(PART, running=True, ready=True, now=1060.0)
    assert (status.state, status.ready, status.uptime_s, status.pid) == ("running", True, 60.0, 42)


def test_the_document_says_when_the_supervisor_has_gone() -> None:
    parts = [part_status(PART, running=True, ready=True, now=1000.0)]
    assert status_document(RECORD, parts, supervised=True)["state"] == "ready"
    assert status_document(RECORD, parts, supervised=False)["state"] == "gone"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, ""), (0.4, "0s"), (59, "59s"), (200, "3m 20s"), (7_500, "2h 5m"), (349_200, "4d 1h")],
)
def test_durations_are_short(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_the_curl_line_is_one_shell_command_with_a_json_body() -> None:
    words = shlex.split(curl_line("http://127.0.0.1:8080"))
    assert words[0] == "curl"
    body = json.loads(words[words.index("-d") + 1])
    assert (body["model"], body["stream"]) == ("llama", True)


def test_the_announcement_says_how_to_stop() -> None:
    said = announcement(gateway="g", console="c", logs="l", run_dir="/r", detached=True)
    assert "`pointsman down --run-dir /r`" in said
    assert "Ctrl-C" in announcement(
        gateway="g", console="c", logs="l", run_dir=".run", detached=False
    )
