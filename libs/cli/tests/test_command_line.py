"""What the command says when it cannot do what it was asked."""

import json
import socket
from pathlib import Path

import pytest

from pointsman_cli.__main__ import VERBS, main
from pointsman_cli.adapters.free_ports import free_ports
from pointsman_cli.adapters.processes import identity_of_self
from pointsman_cli.adapters.run_folder import RunFolder
from pointsman_cli.core.stack_record import PartRecord, ProcessIdentity, StackRecord, StackState

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert f"usage: pointsman {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_taken_port_is_named_before_anything_starts(
    tmp_path: Path, capsys: Captured, detach: list[str]
) -> None:
    [free] = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = str(listener.getsockname()[1])
        ports = ["--port", str(free), "--console-port", taken]
        assert main(["up", *ports, "--run-dir", str(tmp_path), *detach]) == 1
    said = capsys.readouterr().err
    assert f"port {taken} is taken, which the console wants" in said
    assert "--console-port" in said
    assert RunFolder(tmp_path).read_record() is None


def test_a_second_stack_in_a_run_folder_is_refused(tmp_path: Path, capsys: Captured) -> None:
    with RunFolder(tmp_path).held():
        assert main(["up", "--run-dir", str(tmp_path)]) == 1
    assert "already runs" in capsys.readouterr().err


def test_a_named_program_that_is_missing_is_an_error(tmp_path: Path, capsys: Captured) -> None:
    gateway, console = map(str, free_ports(2))
    ports = ["--port", gateway, "--console-port", console]
    assert main(["up", *ports, "--run-dir", str(tmp_path), "--envoy", "/no/such"]) == 1
    assert "--envoy /no/such: no such program" in capsys.readouterr().err


def test_manifests_without_a_pool_are_an_error(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "endpoints.yaml").write_text("endpoints: []")
    gateway, console = map(str, free_ports(2))
    ports = ["--port", gateway, "--console-port", console]
    run_dir = str(tmp_path / "run")
    assert main(["up", *ports, "--run-dir", run_dir, "--manifests", str(tmp_path)]) == 1
    assert "no InferencePool" in capsys.readouterr().err


def test_nothing_running_is_said_plainly(tmp_path: Path, capsys: Captured) -> None:
    assert main(["status", "--run-dir", str(tmp_path)]) == 3
    assert main(["down", "--run-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("nothing runs") == 2
    assert main(["status", "--json", "--run-dir", str(tmp_path)]) == 3
    assert json.loads(capsys.readouterr().out) == {"state": "stopped", "parts": []}


def test_down_leaves_strangers_that_got_the_pids_of_a_dead_stack(tmp_path: Path) -> None:
    ourselves = identity_of_self()
    stranger = ProcessIdentity(ourselves.pid, "another/birth")
    folder = RunFolder(tmp_path)
    folder.write_record(
        StackRecord(
            supervisor=stranger,
            state=StackState.READY,
            gateway="",
            console="",
            sockets=str(tmp_path / "sockets"),
            parts=(PartRecord(name="nats", address="", probe_url="", log="", process=stranger),),
        )
    )
    assert main(["down", "--run-dir", str(tmp_path)]) == 0
    assert folder.read_record() is None


def test_logs_are_told_apart_by_part(tmp_path: Path, capsys: Captured) -> None:
    folder = RunFolder(tmp_path)
    folder.clear_logs()
    folder.log_path("nats").write_text("listening\n")
    folder.log_path("engine-1").write_text("ready\n")
    assert main(["logs", "--run-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "engine-1 | ready\nnats     | listening\n"
    assert main(["logs", "nats", "--run-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "listening\n"
    assert main(["logs", "router", "--run-dir", str(tmp_path)]) == 1
    assert "there are: engine-1, nats" in capsys.readouterr().err
