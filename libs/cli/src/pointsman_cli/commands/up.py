"""`pointsman up`: the whole stack on this machine, without containers or a cluster."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

from pointsman_cli.adapters.free_ports import free_ports, port_is_taken
from pointsman_cli.adapters.processes import end_all
from pointsman_cli.adapters.programs import ProgramMissingError, find_program
from pointsman_cli.adapters.progress import Progress
from pointsman_cli.adapters.run_folder import RunFolder, StackRunningError, write_files
from pointsman_cli.commands.background import start_in_background
from pointsman_cli.commands.gateway_arguments import add_gateway_arguments
from pointsman_cli.core.announcement import announcement
from pointsman_cli.core.sample_pool import POOL, first_pool
from pointsman_cli.core.stack_record import StackRecord, StackState

ENGINES = 3


class CannotStartError(Exception):
    """Nothing was started; the message says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_port, default=8080, help="of the gateway (%(default)s)")
    parser.add_argument(
        "--console-port", type=_port, default=8081, help="of console and REST API (%(default)s)"
    )
    parser.add_argument("--detach", action="store_true", help="return when the stack is ready")
    parser.add_argument(
        "--engines",
        type=_count,
        metavar="N",
        help=f"simulated model servers ({ENGINES}; with --manifests none)",
    )
    parser.add_argument("--profile", default="demo", help="speed of the engines (%(default)s)")
    parser.add_argument(
        "--manifests",
        type=Path,
        metavar="DIR",
        help="your InferencePool, objectives and endpoints instead of the sample",
    )
    add_gateway_arguments(parser)
    for name in ("envoy", "nats-server", "redis-server"):
        parser.add_argument(f"--{name}", metavar="PATH", help="use this program, not the wheel's")
    parser.add_argument(
        "--run-dir", type=Path, default=Path(".run"), help="logs and state (%(default)s)"
    )
    # The background half of --detach.
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    folder = RunFolder(options.run_dir)
    try:
        if not options.detach or options.supervised:
            with folder.held():
                return _run_here(folder, options)
        with folder.held():  # a running stack or a taken port is said here
            _check(options)
        return start_in_background(folder, _arguments_of(options), _announcement(folder, options))
    except (CannotStartError, StackRunningError, ProgramMissingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run_here(folder: RunFolder, options: argparse.Namespace) -> int:
    _check(options)
    with _leaving_at_once():
        # Envoy's messages take a second to import; `--help` and errors need not wait for them.
        from pointsman_cli.adapters.supervisor import Supervisor  # noqa: PLC0415
        from pointsman_cli.core import stack_plan  # noqa: PLC0415

    programs = stack_plan.Programs(
        python=sys.executable,
        envoy=find_program("envoy", options.envoy),
        nats_server=find_program("nats-server", options.nats_server),
        redis_server=find_program("redis-server", options.redis_server),
    )
    own = options.manifests
    engines = (0 if own else ENGINES) if options.engines is None else options.engines
    wanted = stack_plan.StackOptions(
        port=options.port,
        console_port=options.console_port,
        engines=engines,
        profile=options.profile,
        response_mode=options.response_mode,
        completion_signal=options.completion_signal,
    )
    end_remains(folder)
    sockets = str(folder.make_sockets_folder())
    try:
        folders = stack_plan.Folders(
            run=str(folder.path),
            sockets=sockets,
            manifests=str(own.absolute()) if own else "",
            pool=_pool_of(own) if own else POOL,
        )
        names = stack_plan.needed_ports(wanted)
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        plan = stack_plan.plan_stack(wanted, programs, folders, ports)
        folder.clear_logs()
        write_files(plan.files)
        with Progress() as progress:
            show = _Announcing(progress, _announcement(folder, options))
            code = Supervisor(plan, folder, sockets, show).run()
    finally:
        folder.remove_sockets_folder(sockets)
    record = folder.read_record()
    if code and record is not None:
        print(f"error: {record.failure}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _leaving_at_once() -> Generator[None, None, None]:
    """For a Ctrl-C while nothing runs yet: an exception within an import shows as a traceback."""
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Announcing:
    """Shows progress, and says once that the stack is ready."""

    def __init__(self, progress: Progress, text: str) -> None:
        self._progress, self._text = progress, text

    def __call__(self, record: StackRecord) -> None:
        self._progress(record)
        if record.state is StackState.READY and self._text:
            print(self._text, flush=True)
            self._text = ""


def end_remains(folder: RunFolder) -> None:
    """End what a supervisor that was killed has left behind. The folder must be held."""
    record = folder.read_record()
    if record is None:
        return
    end_all((part.process for part in record.parts if part.process), grace_s=10)
    folder.remove_sockets_folder(record.sockets)
    folder.remove_record()


def _check(options: argparse.Namespace) -> None:
    """Raises CannotStartError, before anything is started."""
    if options.port == options.console_port:
        raise CannotStartError(f"gateway and console cannot share port {options.port}")
    for what, option, port in (
        ("gateway", "--port", options.port),
        ("console", "--console-port", options.console_port),
    ):
        if port_is_taken("127.0.0.1", port):
            raise CannotStartError(
                f"port {port} is taken, which the {what} wants: "
                f"stop who listens there, or choose another with {option}"
            )
    if options.manifests is not None and not options.manifests.is_dir():
        raise CannotStartError(f"--manifests {options.manifests}: no such folder")


def _pool_of(manifests: Path) -> str:
    files = sorted(
        path for path in manifests.iterdir() if path.suffix in (".yaml", ".yml", ".json")
    )
    pool = first_pool(path.read_text() for path in files)
    if pool is None:
        raise CannotStartError(f"--manifests {manifests}: no InferencePool in its files")
    return pool


def _announcement(folder: RunFolder, options: argparse.Namespace) -> str:
    return announcement(
        gateway=f"http://127.0.0.1:{options.port}",
        console=f"http://127.0.0.1:{options.console_port}",
        logs=str(options.run_dir / folder.logs.name),
        run_dir=str(options.run_dir),
        detached=options.detach,
    )


def _arguments_of(options: argparse.Namespace) -> list[str]:
    """The command line that says the same to the background process."""
    words = ["up", "--supervised", "--detach"]
    for name, value in vars(options).items():
        if name not in ("verb", "detach", "supervised") and value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return port


def _count(text: str) -> int:
    count = int(text)
    if not 0 <= count <= 64:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 64")
    return count
