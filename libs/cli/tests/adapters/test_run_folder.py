"""The run folder keeps stacks apart and their state readable."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pointsman_cli.adapters.free_ports import free_ports, port_is_taken
from pointsman_cli.adapters.programs import ProgramMissingError, find_program
from pointsman_cli.adapters.readiness_probe import is_ready
from pointsman_cli.adapters.run_folder import RunFolder, StackRunningError, last_lines
from pointsman_cli.core.stack_plan import sockets_fit


def test_two_stacks_do_not_share_a_folder(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    with first.held(), pytest.raises(StackRunningError, match="already runs"), second.held():
        raise AssertionError("held twice")
    with second.held():
        assert second.read_record() is None


def test_a_deep_run_folder_gets_short_sockets_elsewhere(tmp_path: Path) -> None:
    deep = RunFolder(tmp_path / ("x" * 100))
    sockets = deep.make_sockets_folder()
    assert sockets_fit(str(sockets))
    deep.remove_sockets_folder(str(sockets))
    assert not sockets.exists()


def test_sockets_of_a_stack_that_died_are_cleared(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    sockets = folder.path / "sockets"
    sockets.mkdir()
    (sockets / "stale.sock").touch()
    made = folder.make_sockets_folder()
    assert list(made.iterdir()) == []
    folder.remove_sockets_folder(str(made))


def test_only_folders_made_for_sockets_are_removed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    RunFolder(tmp_path / "run").remove_sockets_folder(str(precious))
    assert precious.exists()


def test_the_end_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert last_lines(log, 2) == ["line 9998", "line 9999"]
    assert last_lines(tmp_path / "none.log", 2) == []


def test_a_port_with_a_listener_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert port_is_taken("127.0.0.1", server.getsockname()[1])
    [free] = free_ports(1)
    assert not port_is_taken("127.0.0.1", free)


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(50))) == 50


def test_nothing_that_refuses_or_is_silent_is_ready() -> None:
    [free] = free_ports(1)
    assert not is_ready(f"http://127.0.0.1:{free}/")
    assert not is_ready(f"redis://127.0.0.1:{free}")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert not is_ready(f"http://127.0.0.1:{port}/", timeout_s=0.05)
        assert not is_ready(f"redis://127.0.0.1:{port}", timeout_s=0.05)


def test_programs_come_from_the_wheels_unless_named(tmp_path: Path) -> None:
    assert Path(find_program("envoy")).name == "envoy"
    assert Path(find_program("redis-server")).name == "valkey-server"
    own = tmp_path / "my-envoy"
    own.touch(mode=0o755)
    assert find_program("envoy", str(own)) == str(own)
    with pytest.raises(ProgramMissingError, match="--envoy /no/such"):
        find_program("envoy", "/no/such")


def test_a_port_given_to_one_stack_is_not_given_to_another_that_starts_at_the_same_time() -> None:
    ask = (
        "from random import Random\n"
        "from pointsman_cli.adapters.free_ports import free_ports\n"
        "print(*free_ports(20, Random(7)), flush=True)\n"
        "input()"
    )
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    )
    given = []
    for child in (first, second):
        assert child.stdout is not None
        given.append(set(child.stdout.readline().split()))
    for child in (first, second):
        child.communicate("\n", timeout=10)
    assert [len(ports) for ports in given] == [20, 20]
    assert given[0].isdisjoint(given[1])
